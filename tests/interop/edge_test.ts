/** Our edge, reference agent. */

import { startOwnEdge } from "./own.ts";
import { startReferenceClient } from "./reference.ts";
import { skipInterop } from "./reference_env.ts";
import { describeTunnel } from "./scenarios.ts";

describeTunnel("our edge, reference agent", {
  startEdge: startOwnEdge,
  startAgent: startReferenceClient,
  skip: await skipInterop(),
});
