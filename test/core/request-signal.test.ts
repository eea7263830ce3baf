import { getEventListeners } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { requestSignal } from "../../core/index.js";
import { openHttp } from "../../rollout/openai/post-json.js";

test("a request's signal aborts with any caller's, for the caller's reason", () => {
  const [first, second] = [new AbortController(), new AbortController()];
  const own = requestSignal([first.signal, second.signal]);
  expect(own.signal.aborted).toBe(false);
  second.abort("enough");
  expect([own.signal.aborted, own.signal.reason]).toEqual([true, "enough"]);
  own.done();
  expect(requestSignal([second.signal]).signal.reason).toBe("enough");
});

test("fifty requests at once on one signal are no leak to warn of", async () => {
  const warned: Error[] = [];
  const listen = (warning: Error): void => void warned.push(warning);
  process.on("warning", listen);
  const run = new AbortController();
  const requests = Array.from({ length: 50 }, () => requestSignal([run.signal]));
  await new Promise(setImmediate); // warnings come a tick later
  process.off("warning", listen);
  run.abort();
  expect([requests.every(({ signal }) => signal.aborted), warned]).toEqual([true, []]);
});

test("it aborts after its time, and not once the request is over", async () => {
  const [late, over] = [requestSignal([], 5), requestSignal([], 5)];
  over.done();
  await new Promise((resolve) => late.signal.addEventListener("abort", resolve));
  expect((late.signal.reason as Error).name).toBe("TimeoutError");
  expect(over.signal.aborted).toBe(false);
});

test("requests leave nothing with the signal that they share: answered, refused and broken off", async () => {
  const server = createServer((request, answer) => {
    if (request.url === "/v1/silence") return;
    if (request.url === "/v1/cut") request.socket.destroy();
    else answer.end("{}");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const open = (timeoutS: number) =>
    openHttp(`http://127.0.0.1:${port}/v1`, { key: null, timeoutS, connections: 4 });
  const [http, hasty] = [open(60), open(0.05)];
  const run = new AbortController();
  const ask = (path: string, by = http) =>
    by.ask(path, {}, run.signal).then(
      ({ status }) => status,
      (error: Error) => error.message,
    );
  expect(await Promise.all([ask("/a"), ask("/b"), ask("/c")])).toEqual([200, 200, 200]);
  expect(await ask("/cut")).toContain("socket hang up");
  expect(await ask("/silence", hasty)).toBe("no answer within 0.05 s");
  await expect.poll(() => getEventListeners(run.signal, "abort").length).toBe(0);
  const kept = Object.getOwnPropertySymbols(run.signal).map(String);
  expect(kept.filter((name) => /dependant/i.test(name))).toEqual([]); // where AbortSignal.any keeps its signals
  http.close();
  hasty.close();
  await new Promise((resolve) => server.close(resolve));
});

test("a garbage collection takes no request's time limit away", async () => {
  const server = createServer(() => {}); // never answers
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const http = openHttp(`http://127.0.0.1:${port}`, { key: null, timeoutS: 0.3, connections: 1 });
  const asked = http.ask("/", {}, new AbortController().signal).catch((error: Error) => error.message);
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  for (let round = 0; round < 4; round++) {
    await new Promise((go) => setTimeout(go, 30));
    collect();
  }
  const never = new Promise((resolve) => setTimeout(() => resolve("nothing in 30 s"), 30_000).unref());
  expect(await Promise.race([asked, never])).toBe("no answer within 0.3 s");
  http.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});
