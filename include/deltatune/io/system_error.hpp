// What the operating system refused, as an Error: which path, what failed, its reason, what to do.
#pragma once

#include <cerrno>
#include <filesystem>
#include <string>
#include <system_error>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"

namespace deltatune {

namespace detail {

DELTATUNE_FUNCTION std::string system_remedy(int code) {
  switch (code) {
    case ENOSPC:
    case EDQUOT:
      return "free some space there or choose another folder";
    case EFBIG:
      return "raise the limit on file sizes (ulimit -f) or choose another file system";
    case EACCES:
    case EPERM:
      return "check the permissions or choose another path";
    case EROFS:
      return "choose a folder on a writable file system";
    case ENOENT:
      return "check the spelling; its folder must exist";
    case ENOTDIR:
      return "a part of the path is a file where a folder is needed";
    case EMFILE:
    case ENFILE:
      return "raise the limit on open files (ulimit -n)";
    case ENOMEM:
      return "free some memory";
    default:
      return "";
  }
}

}  // namespace detail

// `code` is an errno value.
[[noreturn]] inline void throw_system_error(const std::filesystem::path& path, const std::string& what, int code) {
  throw Error(path.string(), what + ": " + std::generic_category().message(code), {.remedy = detail::system_remedy(code)});
}

}  // namespace deltatune
