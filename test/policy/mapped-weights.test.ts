/** Weights that are computed on where they stand; the cache that 16-bit ones are widened into. */
import { spawn, spawnSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test, vi } from "vitest";
import {
  converted,
  heldTensor,
  type NamedTensor,
  replaceFile,
  safetensorsContent,
  writeSafetensors,
} from "../../checkpoints/index.js";
import { packageRoot } from "../../core/index.js";
import {
  cacheEntries,
  cacheFolder,
  hostWeights,
  initialWeights,
  lastingWeights,
  mappedWeights,
  parameterShapes,
  parseDecoderConfig,
  removeCacheEntry,
  type WeightPlaces,
  weightPlaces,
} from "../../policy/index.js";
import { fileIdentity, readValue } from "../../tensor/index.js";

const root = mkdtempSync(join(tmpdir(), "mapped-"));
afterAll(() => rmSync(root, { recursive: true }));

const config = parseDecoderConfig({
  model_type: "qwen2",
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  vocab_size: 300,
});
const weights = initialWeights(config, 3);

let folder = "";
let cache = "";
let notes: string[] = [];
const progress = { note: (line: string) => void notes.push(line) };
beforeEach(() => {
  folder = mkdtempSync(join(root, "policy-"));
  cache = mkdtempSync(join(root, "cache-"));
  vi.stubEnv("RETORT_CACHE", cache);
  notes = [];
});

/** Writes the weights in one type and gives their places. */
async function places(type: "F32" | "BF16" | "F16", change: (name: string) => "F32" | null = () => null) {
  const tensors = new Map(
    Object.entries(parameterShapes(config)).map(([name, shape]) => [
      name,
      converted(heldTensor(weights[name]!, shape), change(name) ?? type),
    ]),
  );
  await replaceFile(join(folder, "model.safetensors"), safetensorsContent(tensors));
  return weightPlaces(folder, config);
}

const values = async (source: WeightPlaces): Promise<Record<string, unknown>> =>
  Object.fromEntries(
    await Promise.all(
      Object.entries(await mappedWeights(source, progress)).map(
        async ([name, tensor]) => [name, await readValue(tensor)] as const,
      ),
    ),
  );

const cached = (): string => {
  const [entry] = readdirSync(join(cache, "widened")).filter((name) => !name.includes("."));
  return join(cache, "widened", entry!, "model.safetensors");
};
const leftovers = (): string[] =>
  readdirSync(cache, { recursive: true, encoding: "utf8" }).filter((name) => /tmp|lock/.test(name));

describe("weights published in float32", () => {
  test("are mapped where they stand, and nothing is written", async () => {
    const source = await places("F32");
    const mapped = await mappedWeights(source, progress);
    expect(new Set(Object.values(mapped).map(({ file }) => file))).toEqual(
      new Set([join(folder, "model.safetensors")]),
    );
    expect(await values(source)).toEqual(weights);
    expect([readdirSync(cache), notes]).toEqual([[], []]);
    expect(mapped["lm_head.weight"]!.identity).toBe(fileIdentity(join(folder, "model.safetensors")));
  });

  test("in a file whose header leaves them unaligned are copied to where they can be mapped", async () => {
    const one: NamedTensor = { dtype: "F32", shape: [2], data: Float32Array.of(1, 2) };
    const file = join(folder, "odd.safetensors");
    await writeSafetensors(file, [["w", one]]);
    const bytes = readFileSync(file);
    const length = Number(bytes.readBigUInt64LE());
    const text = bytes
      .subarray(8, 8 + length)
      .toString()
      .trimEnd();
    const odd = text.length % 4 === 1 ? text : text.padEnd(text.length + ((5 - (text.length % 4)) % 4));
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(odd.length));
    writeFileSync(file, Buffer.concat([prefix, Buffer.from(odd), bytes.subarray(8 + length)]));
    const source = { w: { file, dtype: "F32" as const, shape: [2], offset: 8 + odd.length, bytes: 8 } };
    const { w } = await mappedWeights(source, progress);
    expect([w!.file === file, w!.offset % 4]).toEqual([false, 0]);
    expect(await readValue(w!)).toEqual(Float32Array.of(1, 2));
  });
});

describe("weights published in 16 bits", () => {
  test.each(["BF16", "F16"] as const)(
    "as %s are widened once, to the numbers that are read whole",
    async (type) => {
      const source = await places(type);
      expect(await values(source)).toEqual(hostWeights(source));
      const { mtimeMs, ino } = statSync(cached());
      expect(await values(source)).toEqual(hostWeights(source));
      expect(statSync(cached())).toMatchObject({ mtimeMs, ino });
      expect(notes).toEqual([
        expect.stringContaining("widening the policy's weights to float32, once: 0.000 GB"),
      ]);
      expect(leftovers()).toEqual([]);
    },
  );

  test("leave those of their tensors that are float32 where they stand", async () => {
    const source = await places("BF16", (name) => (name === "model.norm.weight" ? "F32" : null));
    const mapped = await mappedWeights(source, progress);
    expect(mapped["model.norm.weight"]!.file).toBe(join(folder, "model.safetensors"));
    expect(mapped["lm_head.weight"]!.file).toBe(cached());
  });

  test("are found by content: a copy elsewhere shares the file, other weights get another", async () => {
    const first = await mappedWeights(await places("BF16"), progress);
    const before = folder;
    folder = mkdtempSync(join(root, "copy-"));
    const copy = await mappedWeights(await places("BF16"), progress);
    expect(copy).toEqual(first);
    const changed: Record<string, Float32Array> = {
      ...weights,
      "model.norm.weight": new Float32Array(16).fill(3),
    };
    const tensors = new Map(
      Object.entries(parameterShapes(config)).map(([name, shape]) => [
        name,
        converted(heldTensor(changed[name]!, shape), "BF16"),
      ]),
    );
    await replaceFile(join(before, "model.safetensors"), safetensorsContent(tensors)); // as long as before
    const other = await mappedWeights(weightPlaces(before, config), progress);
    expect(await readValue(other["model.norm.weight"]!)).toEqual(new Float32Array(16).fill(3));
  });

  test.each([
    { what: "cut", damage: (file: string) => truncateSync(file, 1000) },
    { what: "lengthened", damage: (file: string) => appendFileSync(file, "x") },
    {
      what: "changed",
      damage: (file: string) => {
        const bytes = readFileSync(file);
        bytes[bytes.length - 3]! ^= 1;
        writeFileSync(file, bytes);
      },
    },
    { what: "without its record", damage: (file: string) => rmSync(join(file, "..", "source.json")) },
  ])("whose widened file was $what are widened again", async ({ damage }) => {
    const source = await places("BF16");
    await values(source);
    damage(cached());
    expect(await values(source)).toEqual(hostWeights(source));
    expect(notes.length).toBe(2);
  });

  test("whose widened file was only touched are read again and kept", async () => {
    const source = await places("BF16");
    await values(source);
    utimesSync(cached(), 1, 1);
    expect(await values(source)).toEqual(hostWeights(source));
    expect(notes.length).toBe(1);
  });

  test("are widened by one of two processes that want them at once; the other waits", async () => {
    const source = await places("BF16");
    const script = `
      const { weightPlaces, mappedWeights, parseDecoderConfig } = await import(${JSON.stringify(join(packageRoot, "dist/policy/index.js"))});
      const places = JSON.parse(process.env.PLACES);
      const notes = [];
      await mappedWeights(places, { note: (line) => notes.push(line) });
      console.log(notes.filter((line) => line.includes("once")).length);`;
    const outputs = await Promise.all(
      [1, 2, 3].map(
        () =>
          new Promise<string>((resolve, reject) => {
            const env = { ...process.env, RETORT_CACHE: cache, PLACES: JSON.stringify(source) };
            const child = spawn(process.execPath, ["--input-type=module", "-e", script], { env });
            let text = "";
            child.stdout.on("data", (part) => (text += part));
            child.stderr.on("data", (part) => (text += part));
            child.on("error", reject);
            child.on("close", () => resolve(text.trim()));
          }),
      ),
    );
    expect(outputs.sort()).toEqual(["0", "0", "1"]);
    expect(leftovers()).toEqual([]);
    expect(await values(source)).toEqual(hostWeights(source));
  });
});

test("what a process on another machine is writing is left to it; what one that was killed there left is not", async () => {
  const source = await places("BF16");
  await values(source);
  const [entry] = cacheEntries();
  rmSync(join(entry!.folder, "source.json"));
  const started = { pid: 1, started: "1", host: "elsewhere" };
  writeFileSync(`${entry!.folder}.lock`, JSON.stringify(started));
  for (const name of ["writing.tmp", "killed.tmp"]) writeFileSync(join(entry!.folder, name), "");
  utimesSync(join(entry!.folder, "killed.tmp"), 1, 1);
  expect(await values(source)).toEqual(hostWeights(source));
  expect(readdirSync(entry!.folder).sort()).toEqual(["model.safetensors", "source.json", "writing.tmp"]);
  expect(notes.join()).toContain(
    `process 1 on elsewhere has been widening the same weights for 0 min (${entry!.folder}.lock): doing so here, too`,
  );
});

test("a lock of another machine where nothing has been written for ten minutes is taken over, and said", async () => {
  const source = await places("BF16");
  await values(source);
  const [entry] = cacheEntries();
  rmSync(entry!.folder, { recursive: true });
  const lock = `${entry!.folder}.lock`;
  mkdirSync(entry!.folder);
  writeFileSync(join(entry!.folder, "killed.tmp"), "");
  writeFileSync(lock, JSON.stringify({ pid: 1, started: "1", host: "elsewhere" }));
  const old = Date.now() / 1000 - 3 * 3600;
  for (const file of [lock, join(entry!.folder, "killed.tmp")]) utimesSync(file, old, old);
  expect(await values(source)).toEqual(hostWeights(source));
  expect(notes.join()).toContain(
    "process 1 on elsewhere began widening these weights 180 min ago and has written nothing lately: taking its place",
  );
  expect([existsSync(lock), readdirSync(entry!.folder).sort()]).toEqual([
    false,
    ["model.safetensors", "source.json"],
  ]);
});

describe("a cache that cannot be written", () => {
  test("because a file is in its place is one clear error", async () => {
    const source = await places("BF16");
    const file = join(cache, "file");
    writeFileSync(file, "");
    vi.stubEnv("RETORT_CACHE", file);
    await expect(mappedWeights(source, progress)).rejects.toThrow(
      new RegExp(`^${file}/digests: need a folder that can be written .*Set RETORT_CACHE to another folder`),
    );
  });

  test.skipIf(process.getuid?.() === 0)(
    "because it is read-only is one clear error (root may write anywhere)",
    async () => {
      const source = await places("BF16");
      chmodSync(cache, 0o500);
      await expect(mappedWeights(source, progress)).rejects.toThrow("need a folder that can be written");
    },
  );

  const hasBubblewrap = spawnSync("bwrap", ["--dev-bind", "/", "/", "true"]).status === 0;
  test.skipIf(!hasBubblewrap)(
    "because its disk is full is refused beforehand, and nothing is left there (skipped where bubblewrap does not work)",
    async () => {
      const source = await places("BF16");
      const disk = join(root, "disk");
      mkdirSync(disk);
      const script = `
        const { mappedWeights } = await import(${JSON.stringify(join(packageRoot, "dist/policy/index.js"))});
        const { readdirSync } = await import("node:fs");
        const error = await mappedWeights(JSON.parse(process.env.PLACES), { note() {} }).catch((e) => e);
        console.log(JSON.stringify([error.name, error.message, readdirSync(${JSON.stringify(disk)}, { recursive: true }).filter((f) => /safetensors|tmp|lock/.test(f))]));`;
      const args = ["--dev-bind", "/", "/", "--size", "1000000", "--tmpfs", disk];
      const { stdout, stderr } = spawnSync(
        "bwrap",
        [...args, process.execPath, "--input-type=module", "-e", script],
        {
          env: { ...process.env, RETORT_CACHE: disk, PLACES: JSON.stringify(source) },
          encoding: "utf8",
        },
      );
      expect(stderr).toBe("");
      expect(JSON.parse(stdout)).toEqual([
        "ConfigError",
        expect.stringMatching(/need 0\.000 GB free on its disk, and there are 0\.001 GB\. .*RETORT_CACHE/),
        [],
      ]);
    },
  );
});

test("the cache lists its entries by what they were made from, and lets one go", async () => {
  const source = await places("BF16");
  await values(source);
  const [entry, ...others] = cacheEntries();
  expect(others).toEqual([]);
  expect(entry).toMatchObject({
    files: [join(folder, "model.safetensors")],
    bytes: statSync(cached()).size,
    isInUse: true,
  });
  rmSync(join(folder, "model.safetensors"));
  expect(cacheEntries()[0]!.isInUse).toBe(false);
  expect(() => removeCacheEntry("zz")).toThrow('--remove: need the id of an entry, got "zz"');
  removeCacheEntry(entry!.id.slice(0, 6));
  expect([cacheEntries(), readdirSync(join(cache, "widened"))]).toEqual([[], []]);
});

test("the cache stands where the environment says, else in the home folder", () => {
  expect(cacheFolder({ RETORT_CACHE: "/a/b", XDG_CACHE_HOME: "/c" })).toBe("/a/b");
  expect(cacheFolder({ XDG_CACHE_HOME: "/c" })).toBe("/c/retort");
  expect(cacheFolder({}).endsWith("/.cache/retort")).toBe(true);
  expect(existsSync("/c/retort")).toBe(false);
});

describe("weights that outlive their files", () => {
  const cachedFiles = (): string[] => readdirSync(join(cacheFolder(), "served")).sort();
  const opened = async () => mappedWeights(await places("F32"), progress);
  const everyValue = async (tensors: Awaited<ReturnType<typeof opened>>) =>
    Object.fromEntries(
      await Promise.all(Object.entries(tensors).map(async ([name, each]) => [name, await readValue(each)])),
    );

  test.each([
    { how: "a second name on the same disk", on: () => cache, names: 2 },
    { how: "a copy on another", on: () => mkdtempSync("/dev/shm/retort-cache-"), names: 1 },
  ])("$how, which is gone once it is released", async ({ on, names }) => {
    vi.stubEnv("RETORT_CACHE", on());
    const before = await opened();
    const expected = await everyValue(before);
    const { weights: own, release } = await lastingWeights(before);
    expect(statSync(join(folder, "model.safetensors")).nlink).toBe(names);
    rmSync(folder, { recursive: true });
    expect(await everyValue(own as typeof before)).toEqual(expected);
    expect(cachedFiles().length).toBe(2); // a folder and its lock
    release();
    release();
    expect(cachedFiles()).toEqual([]);
    rmSync(cacheFolder(), { recursive: true });
  });

  test("what a process left that was killed is removed by the next, and what a living one holds stays", async () => {
    const child = spawnSync(process.execPath, ["-e", "process.stdout.write(String(process.pid))"]);
    const served = join(cache, "served");
    mkdirSync(join(served, "dead"), { recursive: true });
    const holder = { pid: Number(String(child.stdout)), started: "1", host: hostname() };
    writeFileSync(join(served, "dead.lock"), JSON.stringify(holder));
    const first = await lastingWeights(await opened());
    const second = await lastingWeights(await opened());
    expect(cachedFiles().filter((name) => name.startsWith("dead"))).toEqual([]);
    expect(cachedFiles().length).toBe(4);
    first.release();
    second.release();
  });

  test("a file that was replaced since it was opened is refused, and nothing of it stays", async () => {
    const before = await opened();
    appendFileSync(join(folder, "model.safetensors"), "x");
    await expect(lastingWeights(before)).rejects.toThrow(
      `${join(folder, "model.safetensors")}: need the file that was opened: another is in its place`,
    );
    expect(cachedFiles()).toEqual([]);
  });

  test("those in the cache stay where they are: they can be made again", async () => {
    const widened = await mappedWeights(await places("BF16"), progress);
    expect((await lastingWeights(widened)).weights).toBe(widened);
  });
});
