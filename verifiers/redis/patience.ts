/** How long a client waits for Redis and for workers, and what it tells a person meanwhile. */
import type { RedisAddress } from "./connection.js";
import type { Flight, Lane } from "./flight.js";
import type { Announcement } from "./messages.js";
import { offerOf, whoIsMissing } from "./offers.js";
import { OWN_VERSION } from "./roster.js";

export interface PatienceOptions {
  readonly waitS: number;
  readonly heartbeatMs: number;
  readonly address: RedisAddress;
  readonly prefix: string;
  readonly tell: (text: string) => void;
}

export class Patience {
  readonly #options: PatienceOptions;
  readonly #told = new Set<string>();
  /** Redis is gone, or refuses what we write; by performance.now(), as all times here. */
  #lostSince: number | null = null;
  /** Redis refuses programs. */
  #refusedSince: number | null = null;
  #trouble = "";
  /** Workers need a moment to announce themselves to a Redis that has just come back. */
  #quietUntil = 0;
  /** Nothing is to be sent until Redis was asked again. */
  isPaused = false;

  constructor(options: PatienceOptions) {
    this.#options = options;
  }

  lost(reason: string): void {
    this.isPaused = true;
    this.#trouble = reason;
    this.#lostSince ??= performance.now();
    const { address } = this.#options;
    this.#options.tell(`Redis at ${address.shown} is gone (${reason}); trying again until it is back.`);
  }

  found(): void {
    this.#quietUntil = performance.now() + 2 * this.#options.heartbeatMs;
    this.#options.tell(`Redis at ${this.#options.address.shown} is back.`);
  }

  /** Redis was asked, and answered. */
  asked(): void {
    this.#lostSince = null;
    this.isPaused = false;
  }

  /** It was asked, and answered with an error: out of memory, read-only. */
  askedInVain(reason: string): void {
    this.isPaused = true;
    this.#trouble = reason;
    this.#lostSince ??= performance.now();
    this.#tellOnce(
      `Redis at ${this.#options.address.shown} answers with an error (${reason}); trying again.`,
    );
  }

  /** @param reason - null: it took a program */
  refused(reason: string | null): void {
    if (reason === null) {
      this.#refusedSince = null;
      return;
    }
    this.isPaused = true;
    this.#trouble = reason;
    this.#refusedSince ??= performance.now();
    this.#tellOnce(`Redis at ${this.#options.address.shown} takes no programs (${reason}); trying again.`);
  }

  /** Notes who offers a language now. */
  look(lane: Lane, workers: readonly Announcement[]): void {
    lane.offer = offerOf(workers, lane.language);
    if (lane.offer.capacity > 0) lane.missingSince = null;
    else lane.missingSince ??= performance.now();
    for (const { name, retort } of lane.offer.workers) {
      if (retort !== OWN_VERSION)
        this.#tellOnce(
          `Worker ${name} runs Retort ${retort}, this is ${OWN_VERSION}: it may judge otherwise.`,
        );
    }
    if (lane.offer.versions.length > 1) {
      const versions = lane.offer.versions.join(" and ");
      this.#tellOnce(`Workers have different versions of ${lane.language.name}: ${versions}.`);
    }
  }

  /** Fails what has waited long enough, and tells what the rest waits for. */
  giveUp(lanes: Iterable<Lane>, flight: Flight): void {
    const { waitS, address } = this.#options;
    const isOver = (since: number) => performance.now() - since >= waitS * 1000;
    const since = this.#lostSince ?? this.#refusedSince;
    if (since !== null) {
      if (!isOver(since)) return;
      this.#refusedSince = null; // what comes next is tried again
      flight.failAll(null, `Redis at ${address.shown} has been of no use for ${waitS} s: ${this.#trouble}`);
      return;
    }
    for (const lane of lanes) {
      if (lane.missingSince === null || lane.pending === 0) continue;
      if (isOver(lane.missingSince)) flight.failAll(lane, `${this.#whoIsMissing(lane)} (waited ${waitS} s)`);
      else this.tellWhoIsMissing(lane);
    }
  }

  tellWhoIsMissing(lane: Lane): void {
    if (performance.now() < this.#quietUntil) return;
    this.#tellOnce(`Waiting up to ${this.#options.waitS} s: ${this.#whoIsMissing(lane)}`);
  }

  #whoIsMissing({ language, offer }: Lane): string {
    const { address, prefix } = this.#options;
    return whoIsMissing(language, offer, { shownUrl: address.shown, prefix });
  }

  #tellOnce(text: string): void {
    if (!this.#told.has(text)) this.#options.tell(text);
    this.#told.add(text);
  }
}
