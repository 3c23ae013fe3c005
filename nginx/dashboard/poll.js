// What no stream tells is asked for again and again.
import { useEffect } from "./vendor/hooks.module.js";

/** Calls `read`, which says itself what failed, now and every `ms` while the page
 *  is seen; each time when the one before is over. */
export function usePoll(read, ms) {
  useEffect(() => {
    let timer = 0;
    const again = async () => {
      if (document.visibilityState !== "hidden") await read();
      if (timer !== null) timer = setTimeout(again, ms);
    };
    again();
    return () => {
      clearTimeout(timer);
      timer = null;
    };
  }, [read, ms]);
}
