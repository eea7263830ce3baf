/**
 * A tokenizer of a published model's size: byte-level BPE whose tokens are made up, in the layout of tokenizer.json, with
 * the special tokens and the turn layout of its family.
 */

/** GPT-2's letters for the 256 bytes: printable ones stand for themselves, the others for letters from U+0100 on. */
function byteLetters() {
  const isPrintable = (/** @type {number} */ byte) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(isPrintable(byte) ? byte : next++));
}

const LETTERS = "etaoinshrdlucmfwypvbgkqjxz";

/**
 * Merges that grow words out of letters: "et", "ta", ..., with a blank before them, then pairs of those.
 * @param {number} count
 */
function merges(count) {
  /** @type {[string, string][]} */
  const made = [];
  const letters = [...LETTERS];
  const blank = "Ġ"; // the letter of byte 32
  for (const a of letters) for (const b of letters) made.push([a, b]);
  for (const a of letters) made.push([blank, a]);
  const pairs = made.map(([a, b]) => a + b);
  for (const a of pairs) {
    if (made.length >= count) break;
    for (const b of pairs) if (!b.startsWith(blank)) made.push([a, b]);
  }
  return made.slice(0, count);
}

/** Where the ids of special tokens begin, and what they are. */
const FAMILIES = {
  qwen: {
    specials: ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    first: 151643,
    eos: "<|im_end|>",
    bos: null,
    pad: "<|endoftext|>",
    template:
      "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}" +
      "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
  },
  llama: {
    specials: [
      ...[
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|reserved_0|>",
        "<|reserved_1|>",
        "<|finetune_right_pad|>",
      ],
      ...["<|reserved_2|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"],
    ],
    first: 128000,
    eos: "<|eot_id|>",
    bos: "<|begin_of_text|>",
    pad: "<|finetune_right_pad|>",
    template:
      "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + " +
      "message.content + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}" +
      "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
  },
};

/**
 * The tokenizer's files, and generation_config.json, by name.
 * @param {Record<string, unknown>} config of the model; with a smaller vocab_size the specials are its last ids
 * @returns {Record<string, string | Record<string, unknown>>}
 */
export function publishedTokenizer(config) {
  const family = FAMILIES[config.model_type === "llama" ? "llama" : "qwen"];
  const vocabulary = Number(config.vocab_size);
  const first = Math.min(family.first, vocabulary - family.specials.length);
  const bytes = byteLetters();
  const pairs = merges(first - bytes.length);
  const vocab = Object.fromEntries(
    [...bytes, ...pairs.map(([a, b]) => a + b)].map((token, id) => [token, id]),
  );
  const idOf = (/** @type {string} */ special) => first + family.specials.indexOf(special);
  const added = family.specials.map((content) => ({
    ...{ id: idOf(content), content, single_word: false, lstrip: false, rstrip: false },
    ...{ normalized: false, special: true },
  }));
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: true };
  const tokenizer = {
    ...{ version: "1.0", truncation: null, padding: null, added_tokens: added, normalizer: null },
    ...{ pre_tokenizer: byteLevel, post_processor: byteLevel, decoder: byteLevel },
    model: {
      ...{ type: "BPE", dropout: null, unk_token: null, continuing_subword_prefix: "" },
      ...{ end_of_word_suffix: "", fuse_unk: false, byte_fallback: false, ignore_merges: false },
      vocab,
      merges: pairs.map(([a, b]) => `${a} ${b}`),
    },
  };
  const tokens = { bos_token: family.bos, eos_token: family.eos, pad_token: family.pad };
  return {
    "tokenizer.json": JSON.stringify(tokenizer),
    "tokenizer_config.json": {
      ...{ tokenizer_class: "PreTrainedTokenizerFast", model_max_length: config.max_position_embeddings },
      ...{ clean_up_tokenization_spaces: false, ...tokens },
    },
    "chat_template.jinja": family.template,
    "generation_config.json": {
      ...{ bos_token_id: first, pad_token_id: idOf(family.pad), do_sample: true },
      ...{ eos_token_id: [idOf(family.eos), first], temperature: 0.7, top_p: 0.8 },
    },
  };
}
