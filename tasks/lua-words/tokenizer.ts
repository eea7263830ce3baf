/**
 * The tokenizer of the quick start's policy, as a Hugging Face tokenizer.json: words and operators of the family whole,
 * digits and everything else character by character. Test words are spelt out, so that copying them is one skill.
 */
import { INSTRUCTIONS } from "./instructions.js";

/** Special tokens; padding has id 0. */
export const SPECIAL_TOKENS = ["<pad>", "<user>", "<asst>", "<eos>", "<unk>"] as const;

/** How every program reads its input: one token each, as they are always the same. */
const INPUT_PHRASES = ['io.lines(nil, "n") do', "io.read()"];

/** Names and keywords of the programs. Those that always have a blank after them carry it. */
const CODE_WORDS = [
  "local ", "for ", "if ", " in ", " do", " then", "end", "print", "io", "lines", "nil", "read", "math", "max", "min",
  "table", "concat", "reverse", "upper", "sub",
]; // biome-ignore format: a table

/** Operators carry their blanks, so that names and digits are one token wherever they stand. */
const OPERATORS = [
  " = ", " + ", " - ", " * ", " // ", " % ", " .. ", " == ", " ~= ", " >= ", " > ", " < ", ", ", "()", "\n    ", "\n  ",
  "\n\n",
]; // biome-ignore format: a table

/** What a self-teacher reads besides: SDPO's reprompt and feedback layouts, and Lua's commonest messages. */
const CONTEXT_WORDS =
  "Correct solution The following is feedback from your unsuccessful earlier attempt Correctly solve the original question " +
  "Test Case Wrong Answer Input Output Expected Runtime Error Last Executed";
const MESSAGE_WORDS =
  "attempt to perform arithmetic on a nil value global local compare with index call expected unexpected symbol near close at line " +
  "syntax error number method table";
const MESSAGE_NAMES = ["main", "lua", "eof"];

const FIRST_WORDS = new Set([
  "Read",
  "Correct",
  "The",
  "Correctly",
  "Test",
  "Input",
  "Output",
  "Expected",
  "Runtime",
  "Last",
]);
const spaced = (text: string): string[] =>
  text.split(" ").map((word) => (FIRST_WORDS.has(word) ? word : ` ${word}`));

/** Words of the instructions, each with the blank before it; "Read" begins a sentence. */
const instructionWords = (): string[] =>
  INSTRUCTIONS.flatMap(({ text }) => text.match(/ ?[A-Za-z]+/g) ?? []).filter(
    (word) => word !== " in" && word !== " upper",
  );

/** Every piece of more than one character, longest first: the first that fits is taken. */
function pieces(): string[] {
  const all = [
    ...INPUT_PHRASES,
    ...CODE_WORDS,
    ...OPERATORS,
    ...instructionWords(),
    ...spaced(CONTEXT_WORDS),
    ...spaced(MESSAGE_WORDS),
    ...MESSAGE_NAMES,
  ];
  return [...new Set(all)].sort((a, b) => b.length - a.length || (a < b ? -1 : 1));
}

/** Newline, tab and printable ASCII. */
const characters = (): string[] => [
  "\n",
  "\t",
  ...Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)),
];

/** A pattern that both JavaScript and Oniguruma read alike; a word matches only where no letter follows. */
function pattern(piece: string): string {
  const literal = piece.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
  return /[A-Za-z]$/.test(piece) ? `${literal}(?![A-Za-z])` : literal;
}

const CHAT_TEMPLATE =
  "{% for message in messages %}{% if message.role == 'assistant' %}<asst>{{ message.content }}<eos>" +
  "{% else %}<user>{{ message.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<asst>{% endif %}";

/** Contents of the two files of a tokenizer. */
export interface TokenizerFiles {
  readonly tokenizerJson: Record<string, unknown>;
  readonly tokenizerConfig: Record<string, unknown>;
}

/**
 * tokenizer.json and tokenizer_config.json, always the same. A word-level vocabulary said as a BPE without merges, which
 * is how both Hugging Face's and its JavaScript library can read one whose tokens hold blanks.
 */
export function buildTokenizer(): TokenizerFiles {
  const words = pieces();
  const tokens = [...SPECIAL_TOKENS, ...characters(), ...words];
  const vocabulary = Object.fromEntries(tokens.map((token, id) => [token, id]));
  const added = SPECIAL_TOKENS.map((content, id) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }));
  return {
    tokenizerJson: {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: added,
      normalizer: null,
      pre_tokenizer: {
        type: "Split",
        pattern: { Regex: `${words.map(pattern).join("|")}|[\\s\\S]` },
        behavior: "Isolated",
        invert: false,
      },
      post_processor: null,
      decoder: { type: "Fuse" },
      model: {
        type: "BPE",
        dropout: null,
        unk_token: "<unk>",
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: true,
        vocab: vocabulary,
        merges: [],
      },
    },
    tokenizerConfig: {
      tokenizer_class: "PreTrainedTokenizerFast",
      model_max_length: 512,
      clean_up_tokenization_spaces: false,
      pad_token: "<pad>",
      unk_token: "<unk>",
      eos_token: "<eos>",
      chat_template: CHAT_TEMPLATE,
    },
  };
}
