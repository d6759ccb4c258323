// Makes a certificate authority and a server certificate that it signed, with `openssl`.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Makes both in `folder`. The certificate is valid for `names`: host names or IP addresses.
 *
 * Returns the paths of `authority`, `key`, `cert`, and `both`, which has certificate and key in one
 * file as HAProxy expects them.
 */
export function certificates(folder, names) {
  const file = (name) => join(folder, name);
  const openssl = (...args) => execFileSync("openssl", args, { stdio: ["ignore", "pipe", "pipe"] });
  const key = (name) => openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", file(name));
  key("authority.key");
  openssl(
    "req", "-x509", "-new", "-key", file("authority.key"), "-out", file("authority.pem"), "-days", "2", "-subj", "/CN=BandSync tests",
    "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
  );
  key("server.key");
  openssl("req", "-new", "-key", file("server.key"), "-out", file("server.csr"), "-subj", `/CN=${names[0]}`);
  const alternatives = names.map((name) => (/^[\d.]+$/.test(name) ? `IP:${name}` : `DNS:${name}`));
  writeFileSync(file("server.ext"), `subjectAltName=${alternatives.join(",")}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n`);
  openssl(
    "x509", "-req", "-in", file("server.csr"), "-CA", file("authority.pem"), "-CAkey", file("authority.key"),
    "-CAcreateserial", "-out", file("server.pem"), "-days", "2", "-extfile", file("server.ext"),
  );
  writeFileSync(file("both.pem"), Buffer.concat(["server.pem", "server.key"].map((name) => readFileSync(file(name)))));
  return { authority: file("authority.pem"), key: file("server.key"), cert: file("server.pem"), both: file("both.pem") };
}
