/** The short names that data sets give languages: the file endings of MultiPL-E and of Agnostics' images. */

const SHORT: Readonly<Record<string, string>> = {
  jl: "julia",
  ml: "ocaml",
  f90: "fortran",
  r: "r",
  rkt: "racket",
  rs: "rust",
  py: "python",
  js: "javascript",
  ts: "typescript",
  rb: "ruby",
  pl: "perl",
  sh: "bash",
  hs: "haskell",
  ex: "elixir",
  adb: "ada",
  kt: "kotlin",
  cs: "csharp",
  clj: "clojure",
  m: "octave",
  "go_test.go": "go",
};

/** Our name for a language; one that is not a short name is left as it is. */
export const languageOf = (name: string): string =>
  SHORT[name.trim().toLowerCase()] ?? name.trim().toLowerCase();
