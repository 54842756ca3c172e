/** Reference edge, our agent. */

import { startOwnAgent } from "./own.ts";
import { startReferenceServer } from "./reference.ts";
import { skipInterop } from "./reference_env.ts";
import { describeTunnel } from "./scenarios.ts";

describeTunnel("reference edge, our agent", {
  startEdge: startReferenceServer,
  startAgent: startOwnAgent,
  skip: await skipInterop(),
});
