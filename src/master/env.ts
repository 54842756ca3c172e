/**
 * What requests to the session master carry beside themselves.
 *
 * @module
 */

import type { Address } from "../runtime/port.ts";
import type { Credential } from "./credentials.ts";

/** Hono's environment: `app.fetch(request, { remote })`, `app.request(path, init, { remote })`. */
export interface MasterEnv {
  /** What comes with a request from the server. */
  Bindings: {
    /** Whom the connection comes from; wrong keys are counted by it. Requests without one count together. */
    readonly remote?: Address;
  };
  /** What the master itself notes of a request. */
  Variables: {
    /** Whose request it is, once that is known. */
    credential: Credential;
    /** Names the request in logs and problems. */
    requestId: string;
  };
}
