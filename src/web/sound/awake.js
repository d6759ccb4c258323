// Keeps the screen of this device on while the page is in a session.
//
// In secure contexts the wake lock does it. Over plain HTTP there is none, and what keeps a phone awake is a playing
// video. An iPhone wants one that has a sound track, is not muted, is on screen, and does not loop by itself
// (NoSleep.js 92, 135; PR 34). So a strip one pixel high plays a silent file of 3 kB, and is sent back before the file
// ends. It can only be started by a tap. The apps that iOS makes of home-screen icons have a wake lock that works from
// 18.4 on, so they get both.

/** Presses after which browsers allow a video with sound. */
const TAPS = ["click", "touchend", "keydown"];

/**
 * The event `state` reports each change of `state`:
 * - `off`: not wanted
 * - `on`: the screen stays on
 * - `dark`: this screen may go dark
 */
export class Awake extends EventTarget {
  #document;
  #navigator;
  #source;
  #wanted = false;
  #lock = null;
  #asks = false;
  #video = null;
  #plays = false;
  #state = "off";

  /** @param {{ document?: Document, navigator?: Navigator, source?: string }} [options] */
  constructor({
    document = globalThis.document,
    navigator = globalThis.navigator,
    source = new URL("./awake.mp4", import.meta.url).href,
  } = {}) {
    super();
    this.#document = document;
    this.#navigator = navigator;
    this.#source = source;
  }

  get state() {
    return this.#state;
  }

  /** How the screen is kept on: `lock`, `video`, or null. */
  get means() {
    return this.#lock ? "lock" : this.#plays ? "video" : null;
  }

  /** Begins. Call it from a press, so that a video may play at once; without one it plays after the next press. */
  start() {
    if (this.#wanted) return;
    this.#wanted = true;
    for (const type of TAPS) this.#document.addEventListener(type, this.#again, true);
    this.#document.addEventListener("visibilitychange", this.#again);
    this.#keep();
  }

  /** Ends, and removes the video. */
  stop() {
    if (!this.#wanted) return;
    this.#wanted = false;
    for (const type of TAPS) this.#document.removeEventListener(type, this.#again, true);
    this.#document.removeEventListener("visibilitychange", this.#again);
    this.#lock?.release?.()?.catch?.(() => {});
    this.#lock = null;
    this.#endVideo();
    this.#show();
  }

  #again = () => {
    if (!this.#document.hidden && this.#wanted) this.#keep();
  };

  #keep() {
    const { wakeLock, standalone } = this.#navigator;
    if (wakeLock) this.#ask(wakeLock);
    if (!wakeLock || standalone) this.#play();
    this.#show();
  }

  async #ask(wakeLock) {
    if (this.#lock || this.#asks || this.#document.hidden) return;
    this.#asks = true;
    try {
      const lock = await wakeLock.request("screen");
      if (!this.#wanted) return void lock.release();
      this.#lock = lock;
      // The browser releases it whenever the page is hidden.
      lock.addEventListener("release", () => {
        if (this.#lock === lock) this.#lock = null;
        this.#show();
      });
      if (!this.#navigator.standalone) this.#endVideo();
    } catch {
      // For example a device that saves power.
      if (this.#wanted) this.#play();
    } finally {
      this.#asks = false;
      this.#show();
    }
  }

  #play() {
    const video = (this.#video ??= this.#makeVideo());
    if (!video.paused && this.#plays) return;
    video.hidden = false;
    video.play().then(
      () => this.#played(video, true),
      () => this.#played(video, false),
    );
  }

  #makeVideo() {
    const video = this.#document.createElement("video");
    video.className = "awake-strip";
    video.dataset.testid = "awake-video";
    video.setAttribute("playsinline", "");
    video.setAttribute("disablepictureinpicture", "");
    video.setAttribute("disableremoteplayback", "");
    video.setAttribute("aria-hidden", "true");
    video.tabIndex = -1;
    video.preload = "auto";
    video.muted = false;
    this.#load(video);
    video.addEventListener("timeupdate", () => {
      if (video.currentTime > video.duration / 2) video.currentTime = 0;
    });
    // At its end, by a headphone's button, or by another app that plays.
    video.addEventListener("pause", () => {
      if (video !== this.#video) return;
      this.#played(video, false);
      if (!this.#document.hidden) this.#play();
    });
    this.#document.body.append(video);
    return video;
  }

  /** Gives the video its file as a blob: Safari does not play files of servers that answer no parts of them. */
  async #load(video) {
    try {
      const answer = await fetch(this.#source);
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      video.src = URL.createObjectURL(await answer.blob());
    } catch {
      video.src = this.#source;
    }
  }

  #played(video, plays) {
    if (video !== this.#video) return;
    this.#plays = plays;
    // A page that nobody touches, as in a broadcast, shows no strip.
    video.hidden = !plays;
    this.#show();
  }

  #endVideo() {
    const video = this.#video;
    this.#video = null;
    this.#plays = false;
    if (!video) return;
    video.pause();
    video.removeAttribute("src");
    video.load();
    video.remove();
  }

  #show() {
    const state = !this.#wanted ? "off" : this.means ? "on" : "dark";
    if (state === this.#state) return;
    this.#state = state;
    this.dispatchEvent(new Event("state"));
  }
}
