/**
 * Registers tfjs's gradients of all ops, and its own cpu backend. Required, not imported: for an import Node first searches
 * its 1.3 MB of CommonJS for the names of exports, which takes three times as long as to run it, in every process and thread.
 */
import { createRequire } from "node:module";

createRequire(import.meta.url)("@tensorflow/tfjs");
