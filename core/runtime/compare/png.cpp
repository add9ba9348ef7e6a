#include "runtime/compare/png.hpp"

#include <png.h>

#include <csetjmp>
#include <cstring>

#include "base/text.hpp"

namespace loadstone::compare {
namespace {

constexpr uint64_t kMaxPixels = 1u << 28;

/// What libpng's callbacks see. Plain data: longjmp runs no destructors.
struct Codec {
  const unsigned char* next = nullptr;  // reading
  size_t left = 0;
  std::string* out = nullptr;  // writing
  char message[128] = {};
};

void on_error(png_structp png, png_const_charp text) {
  auto* codec = static_cast<Codec*>(png_get_error_ptr(png));
  std::strncpy(codec->message, text, sizeof(codec->message) - 1);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void on_read(png_structp png, png_bytep into, size_t count) {
  auto* codec = static_cast<Codec*>(png_get_io_ptr(png));
  if (count > codec->left) png_error(png, "the file ends too early");
  std::memcpy(into, codec->next, count);
  codec->next += count;
  codec->left -= count;
}

void on_write(png_structp png, png_bytep from, size_t count) {
  static_cast<Codec*>(png_get_io_ptr(png))->out->append(reinterpret_cast<char*>(from), count);
}

void on_flush(png_structp) {}

/// Up to the picture's size; every sample type becomes 8-bit RGB.
bool read_head(png_structp png, png_infop info, Frame* frame) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_read_info(png, info);
  png_set_expand(png);
  png_set_scale_16(png);
  png_set_strip_alpha(png);
  png_set_gray_to_rgb(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  frame->height = png_get_image_height(png, info);
  frame->width = png_get_image_width(png, info);
  if (png_get_rowbytes(png, info) != size_t{frame->width} * 3) png_error(png, "not RGB");
  return true;
}

bool read_rows(png_structp png, png_bytepp rows) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_read_image(png, rows);
  png_read_end(png, nullptr);
  return true;
}

bool write_all(png_structp png, png_infop info, const Frame* frame, png_bytepp rows) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_set_IHDR(png, info, frame->width, frame->height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(png, info);
  png_write_image(png, rows);
  png_write_end(png, info);
  return true;
}

std::vector<png_bytep> row_pointers(const uint8_t* samples, uint32_t height, uint32_t width) {
  std::vector<png_bytep> rows(height);
  for (uint32_t y = 0; y < height; ++y) {
    rows[y] = const_cast<png_bytep>(samples) + size_t{y} * width * 3;
  }
  return rows;
}

Error rejected(const std::string& name, const std::string& found) {
  return Error{Code::invalid_argument,
               "picture rejected",
               escaped(name),
               "found " + found + ", expected a PNG file",
               "",
               {}};
}

Status decode_into(png_structp png, png_infop info, const Codec& codec, const std::string& name,
                   Frame& frame) {
  if (!read_head(png, info, &frame)) return rejected(name, codec.message);
  if (uint64_t{frame.height} * frame.width > kMaxPixels) {
    return rejected(name, std::to_string(frame.width) + "x" + std::to_string(frame.height) +
                              " pixels (at most 2^28)");
  }
  frame.rgb.resize(size_t{frame.height} * frame.width * 3);
  auto rows = row_pointers(frame.rgb.data(), frame.height, frame.width);
  if (!read_rows(png, rows.data())) return rejected(name, codec.message);
  return {};
}

}  // namespace

Result<Frame> decode_png(std::span<const std::byte> bytes, const std::string& name) {
  Codec codec;
  codec.next = reinterpret_cast<const unsigned char*>(bytes.data());
  codec.left = bytes.size();
  if (codec.left < 8 || png_sig_cmp(codec.next, 0, 8) != 0) {
    return rejected(name, "other content");
  }
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &codec, on_error, on_warning);
  png_infop info = png != nullptr ? png_create_info_struct(png) : nullptr;
  if (info == nullptr) {
    png_destroy_read_struct(&png, nullptr, nullptr);
    return Error{Code::resource, "out of memory", escaped(name), "", "", {}};
  }
  png_set_read_fn(png, &codec, on_read);
  Frame frame;
  Status status = decode_into(png, info, codec, name, frame);
  png_destroy_read_struct(&png, &info, nullptr);
  LS_CHECK(std::move(status));
  return frame;
}

Result<std::string> encode_png(const Frame& frame) {
  std::string out;
  Codec codec;
  codec.out = &out;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &codec, on_error, on_warning);
  png_infop info = png != nullptr ? png_create_info_struct(png) : nullptr;
  if (info == nullptr) {
    png_destroy_write_struct(&png, nullptr);
    return Error{Code::resource, "out of memory", "PNG writer", "", "", {}};
  }
  png_set_write_fn(png, &codec, on_write, on_flush);
  auto rows = row_pointers(frame.rgb.data(), frame.height, frame.width);
  const bool written = write_all(png, info, &frame, rows.data());
  png_destroy_write_struct(&png, &info);
  if (!written) {
    return Error{Code::internal, "PNG not written", "PNG writer", codec.message, "", {}};
  }
  return out;
}

}  // namespace loadstone::compare
