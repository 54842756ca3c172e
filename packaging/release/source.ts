/**
 * The source archive: what the commit has, and nothing that checks and builds have left beside it.
 *
 * @module
 */
import { execFileSync } from "node:child_process";

/** What goes into a source archive. */
export interface SourceArchive {
  /** The folder that has the files. */
  readonly root: string;
  /** The files' paths in it. */
  readonly files: readonly string[];
  /** The name and version, for the one folder in the archive. */
  readonly name: string;
  /** The time of every entry, in seconds since 1970. */
  readonly builtAtSeconds: number;
}

/** Writes the archive, whose bytes depend neither on the clock nor on who makes it, nor on the umask. */
export function packSource({ root, files, name, builtAtSeconds }: SourceArchive, path: string): void {
  execFileSync("tar", [
    ...["--owner=0", "--group=0", "--numeric-owner", `--mtime=@${builtAtSeconds}`, "--mode=u=rwX,go=rX"],
    ...[`--transform=s|^|${name}/|`, "--use-compress-program=gzip -n", "--create", "--file", path],
    ...["--no-recursion", "--null", "--files-from=-"],
  ], { cwd: root, input: [...files].sort().map((file) => `${file}\0`).join("") });
}
