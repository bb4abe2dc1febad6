// Following something on the server: its event stream while there is one, asking again and again where not.

import { isAbort, pause, request } from './api.js';

const POLL_S = 1.5;
// Events may come by the hundred; the state is asked for this often at most.
const GAP_S = 0.4;
const SILENCE_MS = 45_000;
// A stream that fails is tried again after twice as long each time, so many times doubled at most.
const DOUBLINGS = 6;
// Browsers allow six connections to a server. Tabs share them, so only a few may hold a stream; others ask.
const STREAMS = 3;

/**
 * Call `refresh` now, at each event (where there are any) and at least every few seconds, until it answers true ("ended").
 * Stops by the signal; sleeps while the tab is hidden.
 */
export async function follow({ events, refresh, signal }) {
  let failures = 0;
  let streamAt = 0;
  const stream = async () => {
    try {
      const ended = await withStream(() => listen(events, refresh, signal));
      failures = 0;
      return ended;
    } catch (error) {
      failures = Math.min(failures + 1, DOUBLINGS);
      streamAt = Date.now() + Math.max(error.retryAfter ?? 0, POLL_S * 2 ** failures) * 1000;
      return false;
    }
  };
  while (!signal.aborted) {
    let rest = POLL_S;
    try {
      await visible(signal);
      if ((await refresh()) || (events && Date.now() >= streamAt && (await stream()))) return;
    } catch (error) {
      if (isAbort(error)) return;
      rest = error.retryAfter ?? rest;
    }
    await pause(rest, signal).catch(() => {});
  }
}

/**
 * Run with one of the few places for streams; does nothing when all are taken. On plain http by name there are no locks
 * (not a secure context), so tabs cannot share; then none streams.
 */
async function withStream(work) {
  if (!navigator.locks) return false;
  for (let place = 0; place < STREAMS; place += 1) {
    const outcome = await navigator.locks.request(`steadyocr-stream-${place}`, { ifAvailable: true }, (lock) =>
      lock ? work().then((ended) => ({ ended })) : null,
    );
    if (outcome) return outcome.ended;
  }
  return false;
}

/** Read the stream until it ends; true when `refresh` said that all is over. */
async function listen(path, refresh, signal) {
  const stop = new AbortController();
  const quit = () => stop.abort();
  const whenHidden = () => document.hidden && quit();
  signal.addEventListener('abort', quit, { once: true });
  document.addEventListener('visibilitychange', whenHidden);
  let alarm = setTimeout(quit, SILENCE_MS);
  try {
    const answer = await request(path, { headers: { Accept: 'text/event-stream' }, signal: stop.signal });
    // Nothing more to tell.
    if (answer.status === 204) return false;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return false;
      clearTimeout(alarm);
      alarm = setTimeout(quit, SILENCE_MS);
      // What happened is asked for, not taken from the event: one way to learn the state, gaps do not matter.
      if (!/^data:/m.test(value)) continue;
      if (await refresh()) return true;
      await pause(GAP_S, stop.signal);
    }
  } catch (error) {
    if (stop.signal.aborted && !signal.aborted) return false;
    throw error;
  } finally {
    clearTimeout(alarm);
    signal.removeEventListener('abort', quit);
    document.removeEventListener('visibilitychange', whenHidden);
    stop.abort();
  }
}

function visible(signal) {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    document.addEventListener('visibilitychange', resolve, { once: true, signal });
    signal.addEventListener('abort', resolve, { once: true });
  });
}
