/** A real HTTP server that speaks OpenAI's protocol, and fails in every way that such servers do. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Asked {
  readonly path: string;
  readonly authorization: string | undefined;
  readonly body: {
    readonly model: string;
    readonly messages?: readonly { role: string; content: string }[];
    readonly prompt?: string;
    readonly [key: string]: unknown;
  };
  /** What was asked, whichever API. */
  readonly prompt: string;
}

/** What the server does: a completion, or a failure. */
export type Answer =
  | { readonly text: string; readonly finish?: "stop" | "length" }
  | { readonly message: unknown }
  | { readonly status: number; readonly json?: unknown; readonly headers?: Record<string, string> }
  | { readonly html: string }
  | { readonly json: unknown }
  | "hang"
  | "hang within the body"
  | "drop"
  | "drop within the body";

export interface EndpointServer {
  readonly url: string;
  /** Every request, in order. */
  readonly asked: Asked[];
  /** Most requests that were open at a time. */
  mostOpen(): number;
  close(): Promise<void>;
}

const bodyOf = (request: IncomingMessage): Promise<string> =>
  new Promise((resolve, reject) => {
    let text = "";
    request.on("data", (chunk) => {
      text += String(chunk);
    });
    request.on("end", () => resolve(text));
    request.on("error", reject);
  });

function send(response: ServerResponse, status: number, value: unknown, headers = {}): void {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(value));
}

function reply(answer: Answer, asked: Asked, response: ServerResponse): void {
  const isChat = asked.path.endsWith("/chat/completions");
  const choices = (choice: Record<string, unknown>): unknown => ({
    id: "cmpl-1",
    object: isChat ? "chat.completion" : "text_completion",
    created: 1,
    model: asked.body.model,
    choices: [{ index: 0, finish_reason: "stop", ...choice }],
  });
  if (answer === "hang") return;
  if (answer === "drop") return void response.destroy();
  if (answer === "drop within the body" || answer === "hang within the body") {
    response.writeHead(200, { "content-type": "application/json", "content-length": "1000" });
    response.write('{"choices":[{"index":0,');
    if (answer === "drop within the body") setTimeout(() => response.destroy(), 20);
    return;
  }
  if ("html" in answer) {
    response.writeHead(200, { "content-type": "text/html" });
    return void response.end(answer.html);
  }
  const said = isChat
    ? { message: "message" in answer ? answer.message : { role: "assistant", content: textOf(answer) } }
    : { text: textOf(answer) };
  if ("status" in answer) send(response, answer.status, answer.json ?? {}, answer.headers);
  else if ("json" in answer) send(response, 200, answer.json);
  else
    send(
      response,
      200,
      choices({ ...said, ...("finish" in answer ? { finish_reason: answer.finish } : {}) }),
    );
}

const textOf = (answer: Answer): string | null =>
  typeof answer === "object" && "text" in answer ? answer.text : null;

/** @param answers - given a request and how many times the same prompt was asked before, what to do */
export async function startEndpoint(
  answers: (asked: Asked, before: number) => Answer | Promise<Answer>,
): Promise<EndpointServer> {
  const all: Asked[] = [];
  const counts = new Map<string, number>();
  let [open, most] = [0, 0];
  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    open++;
    most = Math.max(most, open);
    response.once("close", () => {
      open--;
    });
    const body = JSON.parse(await bodyOf(request)) as Asked["body"];
    const prompt = body.prompt ?? body.messages!.map(({ content }) => content).join("\n");
    const { authorization } = request.headers;
    const asked = { path: request.url!, authorization, body, prompt };
    const before = counts.get(prompt) ?? 0;
    counts.set(prompt, before + 1);
    all.push(asked);
    reply(await answers(asked, before), asked, response);
  };
  const server = createServer((request, response) => {
    handle(request, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    asked: all,
    mostOpen: () => most,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}
