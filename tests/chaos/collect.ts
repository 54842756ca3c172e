/**
 * Loaded before a program (`--preload`): collects its garbage every few seconds, so that the memory which remains is in
 * use, and a leak shows within minutes.
 *
 * @module
 */
const EVERY_MS = 5_000;

const { gc, Bun } = globalThis as { gc?: () => void; Bun?: { gc(synchronously: boolean): void } };
setInterval(() => gc === undefined ? Bun?.gc(true) : gc(), EVERY_MS).unref();
