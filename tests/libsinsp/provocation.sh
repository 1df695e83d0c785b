#!/usr/bin/env bash
# Does one of each thing that `filters` asks for. $1 is an empty directory.
set -u
cd -- "$1" || exit 1
cat /etc/shadow >/dev/null
echo text >written.txt
cat /no/such/file 2>/dev/null
mkdir made
cd made || exit 1
echo text >relative.txt
cd ..
mv made/relative.txt renamed.txt
ln -s /etc/passwd symlink
ln renamed.txt hardlink
chmod u+s renamed.txt
rm symlink hardlink
rm -r made
printf '#!/bin/sh\nexit 7\n' >script
chmod 755 script
./script
exec_missing() { exec /no/such/program; }
(exec_missing) 2>/dev/null
(: </dev/tcp/127.0.0.1/1) 2>/dev/null
(kill -KILL "$BASHPID")
setsid true
exit 0
