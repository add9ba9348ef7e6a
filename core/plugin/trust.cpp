#include "plugin/trust.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/text.hpp"

namespace loadstone::plugin {

Status check_trusted(const std::string& path, const std::string& shown) {
  struct stat entry {};
  if (stat(path.c_str(), &entry) != 0) {
    return Error{errno == ENOENT ? Code::not_found : Code::io, "plugin refused", escaped(shown),
                 std::string("found ") + std::strerror(errno), ""};
  }
  std::string found;
  if (entry.st_uid != 0 && entry.st_uid != geteuid()) {
    found = "owner " + std::to_string(entry.st_uid);
  } else if ((entry.st_mode & S_IWOTH) != 0) {
    found = "writable by everyone";
  } else if ((entry.st_mode & S_IWGRP) != 0 && entry.st_gid != getegid()) {
    found = "writable by group " + std::to_string(entry.st_gid);
  }
  if (found.empty()) return {};
  return Error{Code::invalid_argument, "plugin refused", escaped(shown),
               "found " + found + ", expected a file and folder that only you or root can write",
               ""};
}

}  // namespace loadstone::plugin
