// For PM2: `pm2 start ecosystem.config.cjs`, `pm2 stop bandsync`. README.md says why systemd is better. Other settings go
// into `env`, or into a file .env in the directory from which PM2 was started.
module.exports = {
  apps: [
    {
      name: "bandsync",
      script: process.env.BANDSYNC ?? "/usr/local/bin/bandsync",
      // It is a program, not a script for Node.js. It starts a thread per core by itself.
      interpreter: "none",
      exec_mode: "fork",
      instances: 1,
      // Longer than DRAIN_TIMEOUT, which is 5 s by default. PM2 would kill it after 1.6 s.
      kill_timeout: 15_000,
      restart_delay: 1_000,
      // A wrong setting is not corrected by a restart.
      stop_exit_codes: [2],
      merge_logs: true,
      env: { BANDSYNC_ENV: "production" },
    },
  ],
};
