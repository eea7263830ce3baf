import { expect, test } from "vitest";
import { extractProgram } from "../../verifiers/index.js";

test.each([
  {
    name: "the last of two blocks",
    text: "```lua\nold\n```\ntext\n```lua\nprint(1)\n```\n",
    want: "print(1)\n",
  },
  { name: "no block", text: "print(1)", want: null },
  { name: "a block that never closes", text: "```lua\nprint(1)\n", want: null },
  { name: "a closed block before one that never closes", text: "```\na\n```\n```\nb", want: "a\n" },
  { name: "an empty block", text: "```lua\n\n```", want: null },
  { name: "tildes", text: "~~~\nx ```\n~~~", want: "x ```\n" },
  { name: "a longer fence around a shorter one", text: "````md\n```\nx\n```\n````", want: "```\nx\n```\n" },
  {
    name: "a fence with an info string does not close",
    text: "```\na\n```lua\nb\n```",
    want: "a\n```lua\nb\n",
  },
  { name: "inline code in three back-ticks", text: "```x``` and\n```\ny\n```", want: "y\n" },
  { name: "carriage returns", text: "```c\r\nint x;\r\n```\r\n", want: "int x;\n" },
  { name: "indented by up to three spaces", text: "   ```\na\n  ```", want: "a\n" },
])("fenced: $name", ({ text, want }) => {
  expect(extractProgram(text, "fenced")).toBe(want);
});

test("whole: the completion as it is, or null where there is nothing in it", () => {
  expect(extractProgram("print(1)", "whole")).toBe("print(1)");
  expect(extractProgram(" \n", "whole")).toBeNull();
});
