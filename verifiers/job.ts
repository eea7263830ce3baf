/** What crosses between the pool and the broker process. */
import type { ComparatorName, TestOutcome } from "../core/index.js";
import type { Backend } from "./backend.js";
import type { Supervisor } from "./bubblewrap.js";
import type { Language } from "./languages.js";
import type { ProgramFile } from "./program-files.js";
import type { RunLimits } from "./protocol.js";

/** A checker program, ready to be run: exit 0 accepts an output, 1 refuses it. */
export interface CheckerPlan {
  readonly language: string;
  readonly fileName: string;
  readonly program: string;
  readonly compile: string | null;
  readonly execute: string;
  readonly env: Readonly<Record<string, string>>;
  readonly mounts: readonly string[];
  readonly image: string | null;
  readonly messages?: Language["messages"];
  readonly compileLimits: RunLimits;
  readonly limits: RunLimits;
  /** The expected output is itself a right one, so that a checker which refuses it is broken. */
  readonly acceptsAnswer: boolean;
}

/** Text, or its UTF-8 bytes. `expected: null` runs without comparing. */
export interface JobTest {
  readonly input: string | Uint8Array;
  readonly expected: string | Uint8Array | null;
}

/** A job as it crosses; null: a test that the broker has to ask for. */
export type SentJob = Omit<Job, "tests"> & { readonly tests: readonly (JobTest | null)[] };

/** Compile once, then run each test. */
export interface Job {
  readonly id: number;
  readonly fileName: string;
  readonly program: string;
  readonly compile: string | null;
  readonly execute: string;
  /** Words after those of `execute`; only where it needs no shell. */
  readonly args?: readonly string[];
  /** Written beside the program, under plain names. */
  readonly files?: readonly ProgramFile[];
  readonly env: Readonly<Record<string, string>>;
  readonly mounts: readonly string[];
  /** Container image; null for bubblewrap. */
  readonly image: string | null;
  readonly compileLimits: RunLimits;
  readonly limits: RunLimits;
  readonly tests: readonly JobTest[];
  readonly comparator: ComparatorName;
  /** Judges what the comparator accepts. */
  readonly checker: CheckerPlan | null;
  /** Tests left when this many have failed are not run; null runs all. */
  readonly stopAfterFailures: number | null;
  /** Characters of stdout and of stderr kept of each test, cut in the middle; comparing uses all. */
  readonly keepChars: number;
  /** One run whose stdin and output pass through as they come. */
  readonly isStreamed: boolean;
}

export interface JobResult {
  readonly id: number;
  /** Set when the compiler refused (or could not be run); then `tests` is empty. */
  readonly compile: TestOutcome | null;
  /** How the compiler ended, with a status of its own (accepted, time_limit, ...), also where it went well. */
  readonly compiler?: TestOutcome;
  readonly tests: readonly TestOutcome[];
  /** Our own failure: nothing else in the result counts. */
  readonly infrastructure: string | null;
  /** That failure was the checker's. */
  readonly isCheckerFailure?: boolean;
}

/**
 * What this host enforces, as it stands in every result.
 * @example { "sandbox": "bubblewrap 0.8.0", "mode": "supervisor", "user": "61000+", "network": "none", "seccomp": true,
 *            "memory": "cgroup v1", "processes": "cgroup v1", "cpu": "cgroup v1", "proc": "fresh",
 *            "tree_memory_accounting": true, "notes": [] }
 */
export interface Isolation {
  readonly sandbox: string;
  /** Who starts the tests inside: the C supervisor, the Perl one, or nobody (a bubblewrap for each test). */
  readonly mode: "supervisor" | "perl" | "single";
  /** "caller": we are not root, and programs run under our own uid inside a user namespace. */
  readonly user: "61000+" | "caller";
  readonly network: "none";
  readonly seccomp: true;
  readonly memory: "cgroup v1" | "cgroup v2" | "per process";
  readonly processes: "cgroup v1" | "cgroup v2" | "per user";
  /** What counts CPU time: the group's every process, or those that were waited for; "per process" without a supervisor. */
  readonly cpu: "cgroup v1" | "cgroup v2" | "process tree" | "per process";
  readonly proc: "fresh" | "of the sandbox";
  readonly tree_memory_accounting: boolean;
  /** What is weaker here than it could be, in words. */
  readonly notes: readonly string[];
}

export interface BrokerOptions {
  readonly workers: number;
  readonly backend: Backend;
  /** Images that languages name: the probe takes the first that this machine has. */
  readonly images: readonly string[];
  /** Sandboxes kept ready while nothing waits, each for one program. */
  readonly prestart: number;
  readonly bubblewrap: string;
  /** Those that may be tried, best first; null: a bubblewrap for each test. */
  readonly supervisors: readonly (Supervisor | null)[];
  /** Why there is no better one among them. */
  readonly supervisorNote: string;
  /** Testing and hosts that must not: leave cgroups alone. */
  readonly useCgroups: boolean;
}

export type ToBroker =
  | { readonly type: "start"; readonly options: BrokerOptions }
  | { readonly type: "job"; readonly job: SentJob }
  | { readonly type: "test"; readonly id: number; readonly index: number; readonly test: JobTest }
  | { readonly type: "stdin"; readonly id: number; readonly bytes: Uint8Array | null }
  | { readonly type: "survivors"; readonly id: number };

export type FromBroker =
  | { readonly type: "ready"; readonly isolation: Isolation }
  | { readonly type: "refused"; readonly at: string; readonly message: string }
  | { readonly type: "want"; readonly id: number; readonly index: number }
  | { readonly type: "result"; readonly result: JobResult }
  | {
      readonly type: "output";
      readonly id: number;
      readonly stream: "stdout" | "stderr";
      readonly bytes: Uint8Array;
    }
  | { readonly type: "survivors"; readonly id: number; readonly pids: readonly number[] };
