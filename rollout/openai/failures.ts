/** What goes wrong between us and a sampling server, by what is to be done about it. Never a fault of the policy. */

/** The server is away, overloaded or broke off: the completion is drawn again, with its own seed. */
export class ServerAwayError extends Error {
  override readonly name = "ServerAwayError";
}

/** No answer at all: the server may be another process by now, with the weights that it began with. */
export class ServerGoneError extends ServerAwayError {}

/** The server has other weights than those that were asked for, as after a restart: they are handed over again. */
export class OtherWeightsError extends Error {
  override readonly name = "OtherWeightsError";
}

/** The server will never answer this: told to the user. */
export class ServerRefusedError extends Error {
  override readonly name = "ServerRefusedError";
}
