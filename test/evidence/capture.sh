#!/bin/sh
# Takes attestation evidence from a UEFI machine in QEMU (OVMF, software TPM)
# and stores it beside this file: uefi-on.json with Secure Boot enforcing a
# signed unified kernel image, uefi-off.json with Secure Boot off, the
# software TPM's CA as ca-on.pem and ca-off.pem, and the digest of the image as
# it was signed as image.sha256. Tests read what is on file; this runs only to
# take it anew (about one minute for each).
#
# Needs, as Debian packages: qemu-system-x86 ovmf swtpm swtpm-tools
# systemd-boot-efi sbsigntool mtools fdisk cpio binutils openssl; and Go.
#
#   [OUT=DIRECTORY] test/evidence/capture.sh [KERNEL]
#
# KERNEL is a kernel image with the TPM drivers built in. Without it Debian's
# package named by KERNEL_PACKAGE is downloaded and unpacked, not installed.
# OUT is where the files go, instead of beside this one.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$here}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
package=${KERNEL_PACKAGE:-$(apt-cache depends linux-image-6.12-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-.*\)/\1/p')}
firmware=/usr/share/OVMF
snakeoil=/usr/share/ovmf/PkKek-1-snakeoil # Debian's public test key; passphrase "snakeoil"
stub=/usr/lib/systemd/boot/efi/linuxx64.efi.stub

kernel=${1:-}
if [ -z "$kernel" ]; then
	(cd "$work" && apt-get download -q "$package" && dpkg -x "$package"_*.deb kernel)
	kernel=$(echo "$work"/kernel/boot/vmlinuz-*)
fi

# One signed image: kernel, command line and an initramfs of one static program.
mkdir "$work/root"
(cd "$here/../.." && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$work/root/init" ./test/evidence/guest)
(cd "$work/root" && echo init | cpio --quiet -o -H newc | gzip -9) >"$work/initrd"
printf 'console=ttyS0 panic=-1 quiet' >"$work/cmdline"
printf 'ID=capture\n' >"$work/osrel"
objcopy \
	--add-section .osrel="$work/osrel" --change-section-vma .osrel=0x20000 \
	--add-section .cmdline="$work/cmdline" --change-section-vma .cmdline=0x30000 \
	--add-section .linux="$kernel" --change-section-vma .linux=0x2000000 \
	--add-section .initrd="$work/initrd" --change-section-vma .initrd=0x4000000 \
	"$stub" "$work/unsigned.efi"
openssl rsa -in $snakeoil.key -passin pass:snakeoil -out "$work/key.pem" 2>/dev/null
sbsign --key "$work/key.pem" --cert $snakeoil.pem --output "$work/signed.efi" "$work/unsigned.efi" 2>/dev/null

# The image's reference value, from its signature: the Authenticode digest that
# the signer signed, which is what the firmware has to measure.
sbattach --detach "$work/signature" "$work/signed.efi" 2>/dev/null
openssl asn1parse -inform DER -in "$work/signature" |
	sed -n 's/.*l= *32 prim: OCTET STRING *\[HEX DUMP\]:\(.*\)/\1/p' | head -n 1 | tr A-F a-f >"$work/image.sha256"
[ "$(wc -c <"$work/image.sha256")" -eq 65 ]

# A GPT disk with one EFI system partition that holds the image.
truncate -s 66M "$work/disk"
echo 'start=2048,size=131072,type=U' | sfdisk -q -X gpt "$work/disk"
mformat -i "$work/disk@@1M" -F -T 131072 ::
mmd -i "$work/disk@@1M" ::/EFI ::/EFI/BOOT
mcopy -i "$work/disk@@1M" "$work/signed.efi" ::/EFI/BOOT/BOOTX64.EFI

# take NAME VARIABLES: boots once and stores the evidence as uefi-NAME.json.
take() {
	dir=$work/$1
	mkdir -p "$dir/tpm" "$dir/ca"
	printf 'statedir = %s\nsigningkey = %s/key.pem\nissuercert = %s/issuer.pem\ncertserial = %s/serial\n' \
		"$dir/ca" "$dir/ca" "$dir/ca" "$dir/ca" >"$dir/ca.conf"
	printf -- '--platform-manufacturer Holdfast\n--platform-version 1.0\n--platform-model Capture\n' >"$dir/ca.options"
	printf 'create_certs_tool = swtpm_localca\ncreate_certs_tool_config = %s\ncreate_certs_tool_options = %s\nactive_pcr_banks = sha256\n' \
		"$dir/ca.conf" "$dir/ca.options" >"$dir/setup.conf"
	swtpm_setup --tpm2 --config "$dir/setup.conf" --tpmstate "$dir/tpm" \
		--create-ek-cert --create-platform-cert --lock-nvram --overwrite >"$dir/setup.log"
	swtpm socket --tpm2 --tpmstate dir="$dir/tpm" --ctrl type=unixio,path="$dir/tpm.sock" \
		--flags not-need-init,startup-clear --terminate --daemon
	cp "$2" "$dir/vars.fd"
	timeout 300 qemu-system-x86_64 -machine q35,smm=on -accel tcg,thread=multi -cpu max -smp 1 -m 512 \
		-nodefaults -no-user-config -no-reboot -display none \
		-global driver=cfi.pflash01,property=secure,value=on -global ICH9-LPC.disable_s3=1 \
		-drive if=pflash,format=raw,unit=0,readonly=on,file=$firmware/OVMF_CODE_4M.secboot.fd \
		-drive if=pflash,format=raw,unit=1,file="$dir/vars.fd" \
		-drive if=none,id=d0,format=raw,cache=unsafe,file="$work/disk" -device virtio-blk-pci,drive=d0,bootindex=0 \
		-chardev socket,id=ct,path="$dir/tpm.sock" -tpmdev emulator,id=tpm0,chardev=ct -device tpm-crb,tpmdev=tpm0 \
		-device virtio-rng-pci -serial file:"$dir/serial" -monitor none </dev/null
	tr -d '\r' <"$dir/serial" | sed -n '/^CAPTURE-BEGIN/,/^CAPTURE-END/p' | sed '1d;$d' | base64 -d >"$dir/capture.json" || true
	if [ ! -s "$dir/capture.json" ]; then
		echo "$1: the machine printed no evidence:" >&2
		tail -c 2000 "$dir/serial" >&2
		return 1
	fi
	cp "$dir/capture.json" "$out/uefi-$1.json"
	cat "$dir/ca/issuer.pem" "$dir/ca/swtpm-localca-rootca-cert.pem" >"$out/ca-$1.pem"
	echo "$1: $(wc -c <"$out/uefi-$1.json") bytes"
}

cp "$work/image.sha256" "$out/image.sha256"
take on $firmware/OVMF_VARS_4M.snakeoil.fd
take off $firmware/OVMF_VARS_4M.fd
