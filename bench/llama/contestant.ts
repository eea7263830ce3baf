/**
 * llama.cpp's side of the benchmark, a process: see ../contestant.ts for the protocol. It drives node-llama-cpp's binding by
 * hand, one batch a step with a token of every sequence: the library's own scheduler would come on top.
 */
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { startClocks } from "../clocks.js";
import type { OpenRequest, SampleAnswer, SampleRequest, Setting } from "../contestant.js";
import { serveCommands } from "../serve.js";

/** What we use of node-llama-cpp, which is installed for this table alone. */
interface Library {
  getLlama(options: { gpu: false; build: "never"; logLevel: string; maxThreads: number }): Promise<Llama>;
}
interface Llama {
  loadModel(options: { modelPath: string }): Promise<Model>;
  readonly _bindings: { AddonSampler: new (model: object) => Sampler };
}
interface Model {
  readonly _model: object;
  createContext(options: object): Promise<Context>;
  dispose(): Promise<void>;
}
interface Context {
  readonly _ctx: Binding;
  dispose(): Promise<void>;
}
interface Sampler {
  applyConfig(config: { temperature: number; seed?: number }): void;
  dispose(): void;
}
interface Binding {
  initBatch(size: number): void;
  addToBatch(sequence: number, position: number, tokens: Uint32Array, logitsAt: Uint32Array): Uint32Array;
  decodeBatch(): Promise<void>;
  sampleToken(at: number, sampler: Sampler): Promise<number>;
  sampleToken(
    at: number,
    sampler: Sampler,
    probabilities: false,
    confidence: true,
  ): Promise<[number, undefined, number]>;
  disposeSequence(sequence: number): void;
}

/** Tokens of each sequence whose log-probs are shown: each costs a softmax, sorted, that nothing else needs. */
const SHOWN = 8;
/** Most tokens of one batch while prompts are read in. */
const BATCH = 512;

const home = process.argv[2]!;
const entry = join(home, "node_modules", "node-llama-cpp", "dist", "index.js");
const { getLlama } = (await import(pathToFileURL(entry).href)) as Library;

let folder = "";
let setting: Setting = { threads: 1 };
let loaded: { llama: Llama; model: Model } | null = null;
let live: { key: string; context: Context } | null = null;

async function close(): Promise<void> {
  await live?.context.dispose();
  await loaded?.model.dispose();
  [live, loaded] = [null, null];
}

async function model(): Promise<{ llama: Llama; model: Model }> {
  if (loaded) return loaded;
  const llama = await getLlama({ gpu: false, build: "never", logLevel: "error", maxThreads: 2 });
  loaded = {
    llama,
    model: await llama.loadModel({ modelPath: join(folder, `model.${setting.weights}.gguf`) }),
  };
  return loaded;
}

async function contextFor(sequences: number, contextSize: number): Promise<Context> {
  const key = `${sequences} ${contextSize}`;
  if (live?.key === key) return live.context;
  await live?.context.dispose();
  const { model: own } = await model();
  const batchSize = Math.max(BATCH, sequences);
  const { threads } = setting;
  const context = await own.createContext({
    sequences,
    contextSize,
    batchSize,
    threads,
    flashAttention: true,
  });
  live = { key, context };
  return context;
}

interface Drawn {
  readonly id: number;
  readonly logProb: number;
}

/** One batch: each sequence's tokens from `position` on; draws each one's next token. */
async function decode(
  binding: Binding,
  rows: readonly (readonly number[])[],
  draw: { first: number; position: number; samplers: readonly Sampler[]; isShown: boolean },
): Promise<Drawn[]> {
  const { first, position, samplers, isShown } = draw;
  binding.initBatch(rows.length * rows[0]!.length);
  const places = rows.map((tokens, row) => {
    const last = Uint32Array.of(tokens.length - 1);
    return binding.addToBatch(first + row, position, Uint32Array.from(tokens), last)[0]!;
  });
  await binding.decodeBatch();
  return Promise.all(
    places.map(async (place, row) => {
      const sampler = samplers[first + row]!;
      if (!isShown) return { id: await binding.sampleToken(place, sampler), logProb: Number.NaN };
      const [id, , probability] = await binding.sampleToken(place, sampler, false, true);
      return { id, logProb: Math.log(probability) };
    }),
  );
}

async function sample(request: SampleRequest): Promise<SampleAnswer> {
  const { new_tokens, greedy = false } = request;
  const prompts = request.prompts.flatMap((prompt) => Array.from({ length: request.samples }, () => prompt));
  const promptLength = prompts[0]!.length;
  const { _ctx: binding } = await contextFor(prompts.length, promptLength + new_tokens);
  const { llama, model: own } = await model();
  // One each: they are drawn from on several threads at once.
  const samplers = prompts.map(() => new llama._bindings.AddonSampler(own._model));
  for (const sampler of samplers) sampler.applyConfig({ temperature: 0 });
  const draw = { samplers, isShown: greedy };
  const elapsed = startClocks();
  let drawn: Drawn[] = [];
  const rowsAtOnce = Math.max(1, Math.floor(BATCH / promptLength));
  for (let first = 0; first < prompts.length; first += rowsAtOnce) {
    const rows = prompts.slice(first, first + rowsAtOnce);
    drawn.push(...(await decode(binding, rows, { first, position: 0, ...draw })));
  }
  const columns = [drawn];
  for (let i = 1; i < new_tokens; i++) {
    const rows = drawn.map(({ id }) => [id]);
    drawn = await decode(binding, rows, {
      first: 0,
      position: promptLength + i - 1,
      samplers,
      isShown: greedy && i < SHOWN,
    });
    columns.push(drawn);
  }
  const times = elapsed();
  prompts.forEach((_, sequence) => {
    binding.disposeSequence(sequence);
  });
  for (const sampler of samplers) sampler.dispose();
  const tokens = prompts.length * new_tokens;
  if (!greedy) return { ...times, tokens };
  return {
    ...times,
    tokens,
    ids: prompts.map((_, row) => columns.map((column) => column[row]!.id)),
    log_probs: prompts.map((_, row) => columns.slice(0, SHOWN).map((column) => column[row]!.logProb)),
  };
}

await serveCommands({
  open: (request: OpenRequest) => {
    folder = request.folder;
    return { version: `node-llama-cpp in ${home}` };
  },
  configure: async (next: Setting) => {
    await close();
    setting = next;
    return {};
  },
  sample,
});
await close();
process.exit(0); // its threads would keep the process alive
