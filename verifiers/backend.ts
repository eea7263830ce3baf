/** What builds the outer wall of a sandbox. */
export const BACKENDS = ["bubblewrap", "podman", "docker"] as const;
export type Backend = (typeof BACKENDS)[number];

/** A container tool that is here. */
export interface ContainerTool {
  readonly name: Exclude<Backend, "bubblewrap">;
  /** As it prints it: "podman version 4.3.1". */
  readonly version: string;
}
