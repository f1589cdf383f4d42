/**
 * A copy of this machine's root file system to install packages in: an overlay whose upper half is in
 * memory, gone with the shell that runs in it. Nothing runs in it, it has no /sys and no /run of this
 * machine, and what dpkg does there is never seen outside.
 */
import { type CommandResult, run } from '../../lab/command.ts'

const LAY = `
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root" "$1/packages"
mount --bind "$2" "$1/packages"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount -t proc proc "$1/root/proc"
mount --rbind /dev "$1/root/dev"
mount -t tmpfs tmpfs "$1/root/run"
mount -t tmpfs tmpfs "$1/root/tmp"
mkdir "$1/root/tmp/packages"
mount --bind "$1/packages" "$1/root/tmp/packages"
export DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
exec chroot "$1/root" sh -eu -s
`

/** Why there can be no such copy here, for `skip`; false if there can. */
export async function missingForCopy(scratch: string): Promise<string | false> {
  if (process.getuid?.() !== 0) return 'needs root: mounts and dpkg'
  const { status, stderr } = await inCopy(scratch, scratch, 'dpkg --version')
  return status === 0 ? false : `no copy of this machine can be made: ${stderr.trim()}`
}

/**
 * Runs a script of sh in the copy.
 * @param place an empty folder to mount on
 * @param packages a folder that the script sees as /tmp/packages
 */
export function inCopy(place: string, packages: string, script: string): Promise<CommandResult> {
  return run(
    [
      'unshare',
      '--mount',
      '--pid',
      '--fork',
      '--propagation',
      'private',
      'sh',
      '-c',
      LAY,
      'sh',
      place,
      packages,
    ],
    { input: script, timeoutMs: 120_000 },
  )
}
