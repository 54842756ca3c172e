/** Our edge, our agent. */

import { startOwnAgent, startOwnEdge } from "./own.ts";
import { describeTunnel } from "./scenarios.ts";

describeTunnel("our edge, our agent", {
  startEdge: startOwnEdge,
  startAgent: startOwnAgent,
  skip: false,
});
