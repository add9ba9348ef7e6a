#include "plugin/elf_check.hpp"

#include <elf.h>

#include <cstring>
#include <vector>

#include "base/checked.hpp"
#include "base/text.hpp"

namespace loadstone::plugin {

namespace {

#if defined(__x86_64__)
constexpr uint16_t kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr uint16_t kMachine = EM_AARCH64;
#else
#error "name this machine's ELF number"
#endif

constexpr uint16_t kMaxHeaders = 4096;

Error refuse(const std::string& shown, Code code, std::string found, std::string expected) {
  return Error{code, "plugin refused", escaped(shown),
               "found " + std::move(found) + ", expected " + std::move(expected), ""};
}

Error cut(const std::string& shown, uint64_t nbytes, const char* what, uint64_t end) {
  return refuse(shown, Code::invalid_argument, "a cut file of " + std::to_string(nbytes) + " bytes",
                std::string(what) + " up to " + std::to_string(end));
}

template <typename T>
std::span<std::byte> bytes_of(T& value) {
  return {reinterpret_cast<std::byte*>(&value), sizeof(T)};
}

Status check_table(const std::string& shown, uint64_t nbytes, const char* what, uint64_t offset,
                   uint64_t count, uint64_t entry) {
  const auto size = checked_mul(count, entry);
  const auto end = size ? checked_add(offset, *size) : std::nullopt;
  if (!end || *end > nbytes) return cut(shown, nbytes, what, end.value_or(UINT64_MAX));
  return {};
}

Status check_header(const std::string& shown, const Elf64_Ehdr& header) {
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) {
    return refuse(shown, Code::invalid_argument, "no ELF magic", "a shared library");
  }
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB) {
    return refuse(shown, Code::unsupported, "another ELF class or byte order",
                  "64-bit little-endian");
  }
  if (header.e_machine != kMachine) {
    return refuse(shown, Code::unsupported, "ELF machine " + std::to_string(header.e_machine),
                  std::to_string(kMachine) + " (this machine's)");
  }
  if (header.e_type != ET_DYN) {
    return refuse(shown, Code::invalid_argument, "ELF type " + std::to_string(header.e_type),
                  "a shared library (type 3)");
  }
  if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum == 0 ||
      header.e_phnum > kMaxHeaders) {
    return refuse(shown, Code::invalid_argument,
                  std::to_string(header.e_phnum) + " program headers of " +
                      std::to_string(header.e_phentsize) + " bytes",
                  "1 to 4096 of 56");
  }
  return {};
}

}  // namespace

Status check_elf(const File& file, const std::string& shown) {
  LS_TRY(const FileIdentity identity, file.identity());
  const uint64_t nbytes = identity.nbytes;
  Elf64_Ehdr header{};
  if (nbytes < sizeof header) {
    return refuse(shown, Code::invalid_argument, "a file of " + std::to_string(nbytes) + " bytes",
                  "a shared library");
  }
  LS_CHECK(file.read_exact(bytes_of(header), 0));
  LS_CHECK(check_header(shown, header));
  LS_CHECK(check_table(shown, nbytes, "program headers", header.e_phoff, header.e_phnum,
                       sizeof(Elf64_Phdr)));
  LS_CHECK(check_table(shown, nbytes, "a section table", header.e_shoff, header.e_shnum,
                       header.e_shentsize));
  std::vector<Elf64_Phdr> segments(header.e_phnum);
  LS_CHECK(file.read_exact(
      {reinterpret_cast<std::byte*>(segments.data()), segments.size() * sizeof(Elf64_Phdr)},
      header.e_phoff));
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type != PT_LOAD) continue;
    LS_CHECK(check_table(shown, nbytes, "a segment", segment.p_offset, segment.p_filesz, 1));
  }
  return {};
}

}  // namespace loadstone::plugin
