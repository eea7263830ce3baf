/** Many requests at once, or one change of weights alone: no completion is ever written by two sets of weights. */
export class Gate {
  #inside = 0;
  #closed: Promise<void> | null = null;
  #emptied: (() => void) | null = null;

  get inside(): number {
    return this.#inside;
  }

  /** Waits while weights change. @returns to be called when the request is over */
  async enter(): Promise<() => void> {
    while (this.#closed !== null) await this.#closed;
    this.#inside++;
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      this.#inside--;
      if (this.#inside === 0) this.#emptied?.();
    };
  }

  /** Lets nobody in, waits until all have left, then does the work; changes take turns. */
  async alone<T>(work: () => Promise<T>): Promise<T> {
    while (this.#closed !== null) await this.#closed;
    let open = (): void => {};
    this.#closed = new Promise((resolve) => {
      open = resolve;
    });
    try {
      if (this.#inside > 0)
        await new Promise<void>((resolve) => {
          this.#emptied = resolve;
        });
      this.#emptied = null;
      return await work();
    } finally {
      this.#closed = null;
      open();
    }
  }
}
