/**
 * The directory of a machine's workers as a worker sees it: the parent process holds it in memory, and the control
 * connection carries the requests.
 *
 * @module
 */
import type { ControlConnection, ControlMethods } from "./control.ts";
import type {
  ClaimOutcome,
  Directory,
  DirectoryChange,
  NodeRecord,
  RouteClaim,
  RouteHolder,
} from "./directory.ts";

/** The event that reports a change. */
const CHANGED = "directory_changed";

/** The directory methods that a parent offers to a worker. */
export function directoryMethods(directory: Directory): ControlMethods {
  return {
    enter: (node) => directory.enter(node as NodeRecord),
    leave: (node) => directory.leave(node as string),
    nodes: () => directory.nodes(),
    claim: (claim) => directory.claim(claim as RouteClaim),
    release: (route) => {
      const { name, session } = route as { readonly name: string; readonly session: string };
      return directory.release(name, session);
    },
    lookup: (name) => directory.lookup(name as string),
  };
}

/** Reports changes of the parent's directory to a worker until the connection ends. */
export function tellChanges(directory: Directory, control: ControlConnection): void {
  const end = directory.watch((change) => control.tell(CHANGED, change));
  void control.over.then(end);
}

/** A directory accessed over a control connection. */
export class RemoteDirectory implements Directory {
  readonly #control: ControlConnection;
  readonly #watchers = new Set<(change: DirectoryChange) => void>();

  constructor(control: ControlConnection) {
    this.#control = control;
    control.on(CHANGED, (change) => {
      for (const watcher of this.#watchers) watcher(change as DirectoryChange);
    });
  }

  enter(node: NodeRecord): Promise<"entered" | "renewed"> {
    return this.#control.call("enter", node);
  }

  async leave(node: string): Promise<void> {
    await this.#control.call("leave", node);
  }

  nodes(): Promise<readonly NodeRecord[]> {
    return this.#control.call("nodes");
  }

  claim(claim: RouteClaim): Promise<ClaimOutcome> {
    return this.#control.call("claim", claim);
  }

  async release(name: string, session: string): Promise<void> {
    await this.#control.call("release", { name, session });
  }

  lookup(name: string): Promise<readonly RouteHolder[]> {
    return this.#control.call("lookup", name);
  }

  watch(listener: (change: DirectoryChange) => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
