import { createContext, Script } from "node:vm";

const holder: { work: () => unknown } = { work: () => undefined };
const context = createContext(holder);
const script = new Script("work()");

/**
 * The value of synchronous work that may never end, as that of a foreign template: it is stopped, whatever it does.
 * @throws Error with code ERR_SCRIPT_EXECUTION_TIMEOUT
 */
export function withinMs<T>(timeoutMs: number, work: () => T): T {
  holder.work = work;
  try {
    return script.runInContext(context, { timeout: timeoutMs }) as T;
  } finally {
    holder.work = () => undefined;
  }
}
