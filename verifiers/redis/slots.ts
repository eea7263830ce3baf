/** So many at a time, first come first served; when it closes, those who wait are sent away. */
export class Slots {
  readonly #waiting: ((isMine: boolean) => void)[] = [];
  #free: number;
  #isClosed = false;

  constructor(count: number) {
    this.#free = count;
  }

  /** @returns false when it closed before a slot was free; else `leave` must follow */
  enter(): Promise<boolean> {
    if (this.#isClosed) return Promise.resolve(false);
    if (this.#free > 0) {
      this.#free--;
      return Promise.resolve(true);
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  leave(): void {
    const next = this.#waiting.shift();
    if (next) next(true);
    else this.#free++;
  }

  close(): void {
    this.#isClosed = true;
    for (const sendAway of this.#waiting.splice(0)) sendAway(false);
  }
}
