import { sandboxContract } from "./sandbox-contract.js";

sandboxContract("a bubblewrap for each test, without a supervisor", { mode: "single" });
