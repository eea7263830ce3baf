import { openSandbox } from "./open-sandbox.js";
import type { Host, Sandbox, Surroundings } from "./sandbox.js";

/**
 * Where the broker's sandboxes come from: started on demand, or ahead, while nothing waits. Each is used for one program;
 * starting ahead takes the 5 ms of a start out of the time that a trainer waits for a verdict.
 */
export class SandboxSource {
  readonly #host: Host;
  readonly #prestart: number;
  /** Seats give sandboxes their uids: no two that live at one time share one. */
  readonly #freeSeats: number[];
  readonly #spares: { readonly sandbox: Sandbox; readonly key: string }[] = [];
  #opened = 0;
  #isRestocking = false;

  /** @param workers - sandboxes in use at one time; @param prestart - sandboxes to keep ready beside them */
  constructor(host: Host, workers: number, prestart: number) {
    this.#host = host;
    this.#prestart = prestart;
    this.#freeSeats = Array.from({ length: workers + prestart }, (_, seat) => seat).reverse();
  }

  /** A sandbox that has run nothing yet. @throws InfrastructureError when none can be started */
  async take(surroundings: Surroundings): Promise<Sandbox> {
    const key = JSON.stringify(surroundings);
    const ready = this.#spares.findIndex((spare) => spare.key === key);
    if (ready >= 0) return this.#spares.splice(ready, 1)[0]!.sandbox;
    if (this.#freeSeats.length === 0) await this.#spares.shift()?.sandbox.close(); // ready for other languages only
    return this.#open(surroundings);
  }

  /** Starts sandboxes until enough are ready, or `isIdle` says that the machine is wanted for programs. */
  async restock(surroundings: Surroundings, isIdle: () => boolean): Promise<void> {
    if (this.#isRestocking) return;
    this.#isRestocking = true;
    try {
      while (isIdle() && this.#spares.length < this.#prestart) {
        const sandbox = await this.#open(surroundings);
        this.#spares.push({ sandbox, key: JSON.stringify(surroundings) });
      }
    } catch {
      // A start that fails now fails again when a program needs it, and is reported then.
    } finally {
      this.#isRestocking = false;
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#spares.splice(0).map(({ sandbox }) => sandbox.close()));
  }

  /** A fresh sandbox; its seat is free again when it has closed. */
  async #open(surroundings: Surroundings): Promise<Sandbox> {
    const seat = this.#freeSeats.pop();
    if (seat === undefined) throw new RangeError("more sandboxes than seats");
    const release = (): void => void this.#freeSeats.push(seat);
    let sandbox: Sandbox;
    try {
      sandbox = await openSandbox(this.#host, {
        slot: seat,
        name: `${seat}-${++this.#opened}`,
        ...surroundings,
      });
    } catch (error) {
      release();
      throw error;
    }
    let closing: Promise<void> | null = null;
    return {
      load: (files) => sandbox.load(files),
      run: (run) => sandbox.run(run),
      sendInput: (bytes) => sandbox.sendInput(bytes),
      close: () => {
        closing ??= sandbox.close().finally(release);
        return closing;
      },
    };
  }
}
