/**
 * The tokenizer of the quick start's policy, as a Hugging Face tokenizer.json: words and operators of the family whole,
 * digits and everything else character by character. Test words are spelt out, so that copying them is one skill.
 */
import { INSTRUCTIONS } from "./instructions.js";

/** Special tokens; padding has id 0. */
export const SPECIAL_TOKENS = ["<pad>", "<user>", "<asst>", "<eos>", "<unk>"] as const;

/** Parts of programs and feedback that are always the same: one token each keeps contexts short. */
const FIXED_PHRASES = [
  'io.lines(nil, "n") do',
  "io.read()",
  "Test Case ",
  ": Wrong Answer",
  "\n\nInput\n",
  "\n\nOutput\n",
  "\n\nExpected\n",
  "Runtime Error\n",
  "Last Executed Input\n",
];

/** Names and keywords of the programs. Those that always have a blank beside them carry it. */
const CODE_WORDS =
  "local_|for_|if_|_in_|_do|_then|end|print|io|lines|nil|read|math|max|min|table|concat|reverse|upper|sub"
    .replaceAll("_", " ")
    .split("|");

/** Operators carry their blanks, so that names and digits are one token wherever they stand. */
const OPERATORS = "= + - * // % .. == ~= >= > <".split(" ").map((operator) => ` ${operator} `);
const PUNCTUATION = [", ", "()", "\n    ", "\n  ", "\n\n"];

/** Words of SDPO's reprompt templates and of Lua's commonest messages, beside those of the instructions. */
const FIRST_WORDS = ["Correct", "The", "Correctly", "main", "lua", "eof"];
const LATER_WORDS =
  "solution following is feedback from your unsuccessful earlier attempt solve the original question " +
  "to perform arithmetic compare index call on a nil number value table global local method at line near close " +
  "expected unexpected symbol syntax error with";

/** Words of the instructions, each with the blank before it; "Read" begins a sentence. */
const instructionWords = (): string[] =>
  INSTRUCTIONS.flatMap(({ text }) => text.match(/ ?[A-Za-z]+/g) ?? []).filter(
    // " in " and "upper" are pieces of the programs already.
    (word) => word !== " in" && word !== " upper",
  );

/** Every piece of more than one character, longest first: the first that fits is taken. */
function pieces(): string[] {
  const all = [
    ...FIXED_PHRASES,
    ...CODE_WORDS,
    ...OPERATORS,
    ...PUNCTUATION,
    ...instructionWords(),
    ...FIRST_WORDS,
    ...LATER_WORDS.split(" ").map((word) => ` ${word}`),
  ];
  return [...new Set(all)].sort((a, b) => b.length - a.length || (a < b ? -1 : 1));
}

/** Newline, tab and printable ASCII. */
const characters = (): string[] => [
  "\n",
  "\t",
  ...Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)),
];

/**
 * A pattern that JavaScript and Oniguruma read alike, whose matches are the tokens. Words match only where no letter
 * follows; they stand in one group, which JavaScript searches by first letters instead of one by one.
 */
function splitPattern(words: readonly string[]): string {
  const literal = (piece: string): string => piece.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
  const endsInLetter = (piece: string): boolean => /[A-Za-z]$/.test(piece);
  const others = words.filter((piece) => !endsInLetter(piece)).map(literal);
  const letters = words.filter(endsInLetter).map(literal);
  return `${others.join("|")}|(?:${letters.join("|")})(?![A-Za-z])|[\\s\\S]`;
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
 * is how both Hugging Face's library and its JavaScript twin can read one whose tokens hold blanks.
 */
export function buildTokenizer(): TokenizerFiles {
  const words = pieces();
  const tokens = [...SPECIAL_TOKENS, ...characters(), ...words];
  return {
    tokenizerJson: {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: SPECIAL_TOKENS.map((content, id) => ({
        id,
        content,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      })),
      normalizer: null,
      pre_tokenizer: {
        type: "Split",
        pattern: { Regex: splitPattern(words) },
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
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
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
