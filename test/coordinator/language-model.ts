import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** What the model does with a request: says something, or behaves as bad servers do. */
export type Act =
  | string
  | { readonly status: number; readonly headers?: Record<string, string>; readonly body?: string }
  | { readonly cut: string }
  | "hang"
  | "hang in the body"
  | "reset"
  | "reset in the body";

export interface SeenRequest {
  readonly messages: readonly { readonly role: string; readonly content: string }[];
  readonly body: Readonly<Record<string, unknown>>;
  readonly authorization: string | undefined;
  readonly atMs: number;
}

export interface LanguageModel {
  readonly url: string;
  readonly seen: SeenRequest[];
  /** Most requests that were under way at a time. */
  readonly most: () => number;
  close(): Promise<void>;
}

async function bodyOf(request: IncomingMessage): Promise<Record<string, unknown>> {
  let text = "";
  for await (const chunk of request) text += String(chunk);
  return JSON.parse(text) as Record<string, unknown>;
}

const completion = (content: string, finish_reason: string): string =>
  JSON.stringify({
    id: "c",
    object: "chat.completion",
    choices: [{ index: 0, message: { role: "assistant", content }, finish_reason }],
    usage: { prompt_tokens: 100, completion_tokens: 20, total_tokens: 120 },
  });

function perform(act: Act, response: ServerResponse): void {
  if (act === "hang") return;
  if (act === "reset") return void response.socket?.resetAndDestroy();
  const json = { "content-type": "application/json" };
  if (act === "hang in the body" || act === "reset in the body") {
    response.writeHead(200, { ...json, "content-length": "1000" });
    response.write('{"choices": [');
    if (act === "reset in the body") setTimeout(() => response.socket?.resetAndDestroy(), 20);
    return;
  }
  if (typeof act === "string") {
    response.writeHead(200, json).end(completion(act, "stop"));
  } else if ("cut" in act) {
    response.writeHead(200, json).end(completion(act.cut, "length"));
  } else {
    response
      .writeHead(act.status, { ...json, ...act.headers })
      .end(act.body ?? '{"error":{"message":"as told"}}');
  }
}

/** A real HTTP server that plays a language model; `play` is told how many requests it has seen of this exercise. */
export async function languageModel(
  play: (request: SeenRequest, turn: number) => Act | undefined,
): Promise<LanguageModel> {
  const seen: SeenRequest[] = [];
  const turns = new Map<string, number>();
  let [now, most] = [0, 0];
  const server: Server = createServer((request, response) => {
    now++;
    most = Math.max(most, now);
    response.on("close", () => now--);
    void bodyOf(request).then((body) => {
      const messages = body.messages as SeenRequest["messages"];
      const of = messages[1]!.content;
      const turn = turns.get(of) ?? 0;
      turns.set(of, turn + 1);
      const said = { messages, body, authorization: request.headers.authorization, atMs: performance.now() };
      seen.push(said);
      perform(play(said, turn) ?? { status: 500 }, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    seen,
    most: () => most,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
