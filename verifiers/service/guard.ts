/**
 * Who may ask at all. A page in the user's browser can send requests to 127.0.0.1: it is kept out by the Origin header, by
 * the Host header (a name that someone else's DNS points here), and by a content type that no form can send.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { isIP } from "node:net";
import { RequestError } from "./request-error.js";

export interface GuardOptions {
  /** null: no token is asked for, which only a loopback address allows. */
  readonly token: string | null;
  /** Names under which requests may call us; null: any, where a token proves who asks. */
  readonly hostNames: readonly string[] | null;
}

/** 127.0.0.0/8, ::1 and localhost. */
export function isLoopback(host: string): boolean {
  const plain = host.toLowerCase();
  if (plain === "localhost" || plain === "::1" || plain === "[::1]") return true;
  return isIP(plain) === 4 && plain.startsWith("127.");
}

/** @throws RequestError 403 for a request that a browser sent on behalf of another site */
export function checkOrigin(headers: IncomingHttpHeaders, { hostNames }: GuardOptions): void {
  if (hostNames !== null && !hostNames.includes(hostName(headers.host ?? ""))) {
    const names = hostNames.join(", ");
    throw new RequestError(
      403,
      "host",
      `The Host header must name this machine (${names}); --allow-host adds a name.`,
    );
  }
  const { origin } = headers;
  const site = headers["sec-fetch-site"];
  const isOwn = origin === undefined || (headers.host !== undefined && origin === `http://${headers.host}`);
  if (!isOwn || site === "cross-site" || site === "same-site")
    throw new RequestError(403, "origin", "Requests of web pages are refused.");
}

/** "[::1]:8080" -> "::1" */
function hostName(header: string): string {
  const bracketed = /^\[([^\]]*)\](?::\d*)?$/.exec(header)?.[1];
  return (bracketed ?? header.replace(/:\d*$/, "")).toLowerCase();
}

/**
 * Bearer, or the password of Basic: clients that can only be given an address (verl, open-r1) send
 * http://any:TOKEN@host:port/ as Basic.
 * @throws RequestError 401
 */
export function checkToken(headers: IncomingHttpHeaders, { token }: GuardOptions): void {
  if (token === null) return;
  const given = tokenOf(headers.authorization ?? "");
  if (given === null || !isSame(given, token))
    throw new RequestError(
      401,
      "token",
      "A token is needed: Authorization: Bearer TOKEN, or http://x:TOKEN@host/.",
    );
}

function tokenOf(authorization: string): string | null {
  const [, scheme, value] = /^(bearer|basic) +(\S+) *$/i.exec(authorization) ?? [];
  if (scheme === undefined || value === undefined) return null;
  if (scheme.toLowerCase() === "bearer") return value;
  const pair = Buffer.from(value, "base64").toString("utf8");
  const colon = pair.indexOf(":");
  return colon < 0 ? null : pair.slice(colon + 1);
}

/** Takes the same time wherever two texts differ, and whatever their lengths. */
function isSame(one: string, other: string): boolean {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(one), digest(other));
}

/** Bytes of bodies that are being received or worked on; many large ones at once would fill the memory. */
export class BodyBudget {
  readonly #most: number;
  #used = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** @returns gives the bytes back. @throws RequestError 429 */
  take(bytes: number): () => void {
    if (this.#used + bytes > this.#most)
      throw new RequestError(429, "queue", "Too many large requests at once; try again later.", 1);
    this.#used += bytes;
    return () => {
      this.#used -= bytes;
    };
  }
}
