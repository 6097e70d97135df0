#!/usr/bin/env bash
# Decodes MP3 files of many kinds, made with ffmpeg and lame, with bc-features and with ffmpeg, and compares the lengths. It
# fails if two lengths differ by more than a frame (1,152 samples) without a reported reason.
# Usage: scripts/check_mp3.sh [FOLDER]    (keeps the files in FOLDER)
set -euo pipefail
cd "$(dirname "$0")/.."
for program in ffmpeg lame; do
    if ! command -v "$program" >/dev/null; then
        echo "skipped: $program is not installed"
        exit 0
    fi
done
cargo build --quiet --release -p bc-audio --example measure
measure=${CARGO_TARGET_DIR:-$PWD/target}/release/examples/measure
if [ $# -gt 0 ]; then
    mkdir -p "$1"
    cd "$1"
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cd "$work"
fi
# Loud and dense first, soft later, so that frames at variable rates differ in size; 100 s.
ffmpeg -v error -y -f lavfi -i "aevalsrc='(0.05+0.6*lt(t,20))*(sin(440*2*PI*t)+(random(0)-0.5)*lt(t,20))|0.3*sin(330*2*PI*t)':s=44100:d=100" loud.wav
ffmpeg -v error -y -i loud.wav -t 12 short.wav
ffmpeg -v error -y -f lavfi -i "sine=f=500:r=44100:d=9" -ac 1 mono.wav
ffmpeg -v error -y -f lavfi -i testsrc=size=320x240 -frames:v 1 picture.png
ffmpeg -v error -y -f lavfi -i testsrc=size=640x480 -frames:v 1 -q:v 2 picture.jpg
encode() { ffmpeg -v error -y -i "$1" -map_metadata -1 -c:a libmp3lame "${@:3}" "$2"; }
encode loud.wav variable.mp3 -q:a 2
encode loud.wav variable-no-header.mp3 -q:a 2 -write_xing 0 -id3v2_version 0
encode loud.wav constant.mp3 -b:a 128k
encode loud.wav constant-no-header.mp3 -b:a 128k -write_xing 0
encode loud.wav average.mp3 -b:a 96k -abr 1
encode loud.wav low.mp3 -ar 16000 -b:a 24k
encode loud.wav lowest.mp3 -ar 8000 -ac 1 -b:a 8k
encode loud.wav plain-stereo-48000.mp3 -ar 48000 -b:a 320k -joint_stereo 0
encode short.wav short.mp3 -b:a 160k
encode mono.wav mono.mp3 -b:a 64k
lame --quiet -V 4 loud.wav lame-variable.mp3
lame --quiet -V 4 -t short.wav lame-no-header.mp3
lame --quiet -p -b 192 short.wav lame-checksum.mp3
lame --quiet --freeformat -b 400 short.wav lame-free-format.mp3
lame --quiet -b 64 --nores short.wav lame-no-reservoir.mp3
lame --quiet -V 5 --id3v2-only --ta artist --tt title --ti picture.jpg --pad-id3v2-size 4096 short.wav lame-picture.mp3
lame --quiet -V 5 --id3v1-only --ta artist --tt title short.wav lame-id3v1.mp3
ffmpeg -v error -y -i short.mp3 -i picture.png -map 0 -map 1 -c copy -id3v2_version 4 picture.mp3
cat variable.mp3 short.mp3 >joined.mp3
cat short.mp3 lame-picture.mp3 lame-id3v1.mp3 >joined-tags.mp3
cat variable-no-header.mp3 variable-no-header.mp3 >joined-no-header.mp3
cat short.mp3 mono.mp3 >joined-channels.mp3
cat short.mp3 plain-stereo-48000.mp3 >joined-rates.mp3
cat picture.jpg short.mp3 >picture-without-tag.mp3
cat lame-picture.mp3 picture.jpg >picture-after.mp3
tail -c +100000 constant.mp3 >cut-start.mp3
head -c 700000 variable.mp3 >cut-end.mp3
{ head -c 300000 constant.mp3; tail -c +500000 constant.mp3; } >cut-middle.mp3
{ head -c 300000 constant.mp3; head -c 3000 /dev/zero; tail -c +300001 constant.mp3; } >zeros.mp3
{ head -c 300123 constant.mp3; head -c 5000 picture.jpg; tail -c +300124 constant.mp3; } >junk.mp3
# The header's count of frames, after its name and flags.
name=$(grep -abo -m1 -e Xing -e Info variable.mp3 | head -1 | cut -d: -f1)
for count in half:\\x00\\x00\\x07\\x00 zero:\\x00\\x00\\x00\\x00 much:\\x00\\x01\\x00\\x00; do
    cp variable.mp3 "count-${count%%:*}.mp3"
    printf "${count#*:}" | dd of="count-${count%%:*}.mp3" bs=1 seek=$((name + 8)) conv=notrunc status=none
done
printf '%-28s %10s %10s %8s\n' file ours ffmpeg difference
"$measure" lengths *.mp3 >lengths
status=0
while read -r samples rate failed file; do
    bytes=$({ ffmpeg -nostdin -v error -i "$file" -ac 1 -ar "$rate" -f s16le - 2>errors || true; } | wc -c)
    lost=$(grep -c 'Error while decoding' errors || true)
    difference=$((samples - bytes / 2))
    note=
    # ffmpeg has no free format.
    if [ "$bytes" = 0 ] || [ "$file" = lame-free-format.mp3 ]; then
        note="ffmpeg does not decode it"
    elif [ ${difference#-} -gt $((1152 * (1 + lost))) ]; then
        note="MORE THAN A FRAME"
        status=1
    elif [ "$lost" != 0 ]; then
        note="ffmpeg leaves out $lost frames that it does not decode"
    fi
    [ "$failed" = 0 ] || note="$note ($failed of ours do not decode)"
    printf '%-28s %10d %10d %8d %s\n' "$file" "$samples" $((bytes / 2)) "$difference" "$note"
done < <(grep -v ^failure lengths)
sed -nE 's/^failure (.*) ([^ ]+)$/\2: \1/p' lengths
exit $status
