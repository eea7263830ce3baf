/**
 * Runs many small Lua programs in one Lua process: each in a fresh environment with the real io.read and io.lines on its
 * own input, its output collected, and an instruction limit. For programs of this family only; it is no sandbox, and
 * itself runs inside one.
 */
import { InfrastructureError, type TestOutcome } from "../../core/index.js";

/** A program and the inputs that it is run on. */
export interface ProgramInputs {
  readonly program: string;
  readonly inputs: readonly string[];
}

/** Runs programs: [programs][inputs], status accepted (ended well), runtime_error or time_limit. */
export type RunPrograms = (programs: readonly ProgramInputs[]) => Promise<TestOutcome[][]>;

/**
 * Runs Lua programs of our own making, isolated, and gives what each printed: [programs][inputs].
 * @throws InfrastructureError when one did not end well
 */
export type RunLua = (programs: readonly ProgramInputs[]) => Promise<readonly (readonly string[])[]>;

/** Lua VM instructions that one run may take; a canonical program takes under a hundred. */
const INSTRUCTION_LIMIT = 20_000;
/** Runs of one process: about 0.2 s and 250 KiB of output, well within the usual limits of one test. */
const RUNS_PER_PROCESS = 6_000;

/** The runner. Messages are those of `lua5.4 main.lua`, so that feedback reads the same. */
export const BATCH_RUNNER = `
local TOO_LONG = {}
local function block(text) io.stdout:write(#text, "\\n", text, "\\n") end
local function read_block()
  local size = io.stdin:read("n")
  if size == nil then return nil end
  io.stdin:read(1)
  return io.stdin:read(size) or ""
end
local function run_once(source, input)
  local file = assert(io.tmpfile())
  file:write(input)
  file:seek("set")
  io.input(file)
  local printed = {}
  local function write(...)
    for i = 1, select("#", ...) do printed[#printed + 1] = tostring((select(i, ...))) end
  end
  local function print(...)
    for i = 1, select("#", ...) do
      if i > 1 then printed[#printed + 1] = "\\t" end
      printed[#printed + 1] = tostring((select(i, ...)))
    end
    printed[#printed + 1] = "\\n"
  end
  local environment = {
    print = print, io = { read = io.read, lines = io.lines, write = write },
    math = math, string = string, table = table, tostring = tostring, tonumber = tonumber,
    ipairs = ipairs, pairs = pairs, next = next, type = type, select = select,
    error = error, assert = assert,
  }
  environment._G = environment
  local chunk, problem = load(source, "@main.lua", "t", environment)
  local ok = false
  if chunk then
    debug.sethook(function() error(TOO_LONG, 0) end, "", ${INSTRUCTION_LIMIT})
    ok, problem = pcall(chunk)
    debug.sethook()
  end
  io.input(io.stdin)
  file:close()
  local status = ok and "accepted" or problem == TOO_LONG and "time_limit" or "runtime_error"
  return status, table.concat(printed), ok and "" or problem == TOO_LONG and "" or tostring(problem)
end
while true do
  local source = read_block()
  if source == nil then break end
  local input = read_block()
  local status, printed, problem = run_once(source, input)
  block(status) block(printed) block(problem)
end
`;

const block = (text: string): string => `${Buffer.byteLength(text)}\n${text}\n`;

function* blocksOf(text: string): Generator<string> {
  const bytes = Buffer.from(text, "utf8");
  let at = 0;
  while (at < bytes.length) {
    const lineEnd = bytes.indexOf(10, at);
    const size = Number(bytes.toString("utf8", at, lineEnd));
    yield bytes.toString("utf8", lineEnd + 1, lineEnd + 1 + size);
    at = lineEnd + size + 2;
  }
}

function outcome(status: string, stdout: string, problem: string): TestOutcome {
  const isAccepted = status === "accepted";
  return {
    status: isAccepted ? "accepted" : status === "time_limit" ? "time_limit" : "runtime_error",
    time_ms: 0,
    memory_kb: null,
    exit_code: isAccepted ? 0 : 1,
    signal: null,
    stdout,
    stderr: problem === "" ? "" : `lua5.4: ${problem}\nstack traceback:\n\t[C]: in ?\n`,
  };
}

type Run = readonly [program: string, input: string];

const chunkInput = (runs: readonly Run[]): string =>
  runs.map(([program, input]) => block(program) + block(input)).join("");

function chunkOutcomes(runs: readonly Run[], stdout: string): TestOutcome[] {
  const blocks = [...blocksOf(stdout)];
  if (blocks.length !== 3 * runs.length) {
    throw new InfrastructureError(`the batch runner answered ${blocks.length / 3} of ${runs.length} runs`);
  }
  return runs.map((_, i) => outcome(blocks[3 * i]!, blocks[3 * i + 1]!, blocks[3 * i + 2]!));
}

/** Programs by the ten thousand: one isolated Lua process for each 6,000 runs. */
export function createBatchRunner(runLua: RunLua): RunPrograms {
  return async (programs) => {
    const runs = programs.flatMap(({ program, inputs }) => inputs.map((input): Run => [program, input]));
    const chunks = Array.from({ length: Math.ceil(runs.length / RUNS_PER_PROCESS) }, (_, i) =>
      runs.slice(i * RUNS_PER_PROCESS, (i + 1) * RUNS_PER_PROCESS),
    );
    const printed = await runLua(
      chunks.map((chunk) => ({ program: BATCH_RUNNER, inputs: [chunkInput(chunk)] })),
    );
    const outcomes = chunks.flatMap((chunk, i) => chunkOutcomes(chunk, printed[i]![0]!));
    const next = outcomes.values();
    return programs.map(({ inputs }) => inputs.map(() => next.next().value!));
  };
}
