/** Live progress of a run: a refreshing block on a terminal, plain lines in a pipe or in CI. */
import { type Bar, MultiBar } from "cli-progress";
import { type ProgressState, plainDue, progressDetail, progressHead } from "./progress-line.js";

export interface Progress {
  /** Begins a stage of `total` steps; ends the one before it. */
  stage(name: string, total: number): void;
  /** What is known now; fields that are left out keep their last value within the stage. */
  update(state: Partial<ProgressState>): void;
  /** A line that stays, above the refreshing block. */
  note(line: string): void;
  /** Ends the last stage and lets the terminal go. */
  end(): void;
}

export interface ProgressOptions {
  readonly stream: NodeJS.WriteStream;
  /** Default: the stream is a terminal and no CI is announced. */
  readonly isTTY?: boolean;
  /** Shows notes alone. */
  readonly isQuiet?: boolean;
  /** Milliseconds; only differences count. */
  readonly now?: () => number;
}

interface Stage {
  readonly name: string;
  readonly total: number;
  readonly startedMs: number;
  state: ProgressState;
}

const begin = (name: string, total: number, now: number): Stage => ({
  name,
  total,
  startedMs: now,
  state: { done: 0 },
});

const head = (stage: Stage, now: number): string =>
  progressHead({
    stage: stage.name,
    done: stage.state.done,
    total: stage.total,
    elapsedMs: now - stage.startedMs,
  });

/** Plain lines: at a stage's start and end, and in between when enough time or work has passed. */
function plainProgress(stream: NodeJS.WriteStream, now: () => number): Progress {
  let stage: Stage | null = null;
  let printed = { atMs: 0, done: 0 };
  const print = (): void => {
    if (stage === null) return;
    const detail = progressDetail(stage.state);
    stream.write(`${head(stage, now())}${detail === "" ? "" : `  ${detail}`}\n`);
    printed = { atMs: now(), done: stage.state.done };
  };
  const finish = (): void => {
    if (stage !== null && stage.state.done !== printed.done) print();
    stage = null;
  };
  return {
    stage(name, total) {
      finish();
      stage = begin(name, total, now());
      print();
    },
    update(state) {
      if (stage === null) return;
      stage.state = { ...stage.state, ...state };
      const sinceMs = now() - printed.atMs;
      if (plainDue({ done: stage.state.done, total: stage.total, printed: printed.done, sinceMs })) print();
    },
    note(line) {
      stream.write(`${line}\n`);
    },
    end: finish,
  };
}

/** Two lines that refresh in place: how far, and what it shows. */
function terminalProgress(stream: NodeJS.WriteStream, now: () => number): Progress {
  const bars = new MultiBar({
    stream,
    hideCursor: true,
    linewrap: false,
    clearOnComplete: false,
    gracefulExit: false, // Ctrl-C finishes the step; the run ends this display itself
    fps: 8,
    format: (_options, _params, payload: { line?: string }) => payload.line ?? "",
  });
  let stage: Stage | null = null;
  let lines: { head: Bar; detail: Bar } | null = null;
  const show = (): void => {
    if (stage === null || lines === null) return;
    lines.head.update(stage.state.done, { line: head(stage, now()) });
    lines.detail.update(0, { line: `  ${progressDetail(stage.state)}` });
  };
  const finish = (): void => {
    if (stage === null || lines === null) return;
    const line = [head(stage, now()), progressDetail(stage.state)].filter((text) => text !== "").join("  ");
    bars.remove(lines.head);
    bars.remove(lines.detail);
    bars.log(`${line}\n`);
    stage = null;
    lines = null;
  };
  return {
    stage(name, total) {
      finish();
      stage = begin(name, total, now());
      lines = { head: bars.create(total, 0, { line: "" }), detail: bars.create(1, 0, { line: "" }) };
      show();
    },
    update(state) {
      if (stage !== null) stage.state = { ...stage.state, ...state };
      show();
    },
    note(line) {
      if (stage === null) stream.write(`${line}\n`);
      else bars.log(`${line}\n`);
    },
    end() {
      finish();
      bars.update();
      bars.stop();
    },
  };
}

/** Notes and nothing else. */
const quietProgress = (stream: NodeJS.WriteStream): Progress => ({
  stage: () => {},
  update: () => {},
  note: (line) => void stream.write(`${line}\n`),
  end: () => {},
});

/** Progress fitting the stream: CI logs get plain lines even where they pretend to be a terminal. */
export function createProgress(options: ProgressOptions): Progress {
  const isTTY = options.isTTY ?? (options.stream.isTTY === true && !process.env.CI);
  const now = options.now ?? (() => performance.now());
  if (options.isQuiet) return quietProgress(options.stream);
  return isTTY ? terminalProgress(options.stream, now) : plainProgress(options.stream, now);
}
