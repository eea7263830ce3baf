/** One request over HTTP. Not fetch: its five minutes for an answer's first byte cannot be set, and a completion may take longer. */
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import { requestSignal } from "../../core/index.js";

export interface HttpAnswer {
  readonly status: number;
  readonly text: string;
}

export interface Http {
  /**
   * @param body - sent as JSON; absent: a GET
   * @param signal - breaks the request off
   * @throws Error when no answer came: refused, broken off, or not within the time
   */
  ask(path: string, body?: unknown, signal?: AbortSignal): Promise<HttpAnswer>;
  close(): void;
}

/** @param base - paths are put behind it */
export function openHttp(
  base: string,
  options: { readonly key: string | null; readonly timeoutS: number; readonly connections: number },
): Http {
  const isSecure = base.startsWith("https:");
  const agent = new (isSecure ? HttpsAgent : HttpAgent)({
    keepAlive: true,
    maxSockets: options.connections,
  });
  return {
    ask: (path, body, caller) =>
      new Promise((resolve, reject) => {
        const own = requestSignal(caller === undefined ? [] : [caller], options.timeoutS * 1000);
        const content = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
        const request = (isSecure ? httpsRequest : httpRequest)(
          `${base}${path}`,
          {
            agent,
            method: content === undefined ? "GET" : "POST",
            headers: {
              accept: "application/json",
              ...(content === undefined
                ? {}
                : { "content-type": "application/json", "content-length": content.length }),
              ...(options.key === null ? {} : { authorization: `Bearer ${options.key}` }),
            },
            signal: own.signal,
          },
          (answer: IncomingMessage) => {
            const parts: Buffer[] = [];
            answer.on("data", (part: Buffer) => parts.push(part));
            answer.on("end", () =>
              resolve({ status: answer.statusCode ?? 0, text: Buffer.concat(parts).toString("utf8") }),
            );
            answer.on("error", reject);
          },
        );
        request.on("close", own.done); // after an answer, an error or a break, always
        request.on("error", (error) =>
          reject(
            error.name === "AbortError" && caller?.aborted !== true
              ? new Error(`no answer within ${options.timeoutS} s`)
              : error,
          ),
        );
        request.end(content);
      }),
    close: () => agent.destroy(),
  };
}
