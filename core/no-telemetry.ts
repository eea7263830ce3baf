/**
 * ONNX Runtime's published builds for Linux, from 1.29 on, write an id of the machine into ~/.cache/Microsoft and send what they
 * know of each session to Microsoft, unless this variable is set before the first session opens. It is set here, in what
 * everything imports, because it must happen in the main thread: a worker thread's environment is a copy of its own.
 */
process.env.ORT_DISABLE_TELEMETRY = "1";
