import { sandboxContract } from "./sandbox-contract.js";

sandboxContract("one sandbox a program, a supervisor in Perl inside", { mode: "perl" });
