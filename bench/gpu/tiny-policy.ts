/** Writes a tiny policy into the folder named in the arguments. */
import { writePolicyFiles } from "../policy-files.js";

await writePolicyFiles(process.argv[2]!, "tiny");
