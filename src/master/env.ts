/**
 * The context of requests to the session master.
 *
 * @module
 */

import type { Address } from "../runtime/port.ts";
import type { Credential } from "./credentials.ts";

/** Hono's environment: `app.fetch(request, { remote })`, `app.request(path, init, { remote })`. */
export interface MasterEnv {
  /** Passed by the server with each request. */
  Bindings: {
    /** The connection's peer address; wrong keys are counted by it. Requests without one are counted together. */
    readonly remote?: Address;
  };
  /** Set by the master for each request. */
  Variables: {
    /** The caller, once authenticated. */
    credential: Credential;
    /** Identifies the request in logs and problems. */
    requestId: string;
  };
}
