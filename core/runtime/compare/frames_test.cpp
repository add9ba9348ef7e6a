#include "runtime/compare/frames.hpp"

#include <gmock/gmock.h>

#include "runtime/compare/testing.hpp"

namespace loadstone::compare {
namespace {

using ::testing::ElementsAre;
using testing::Folder;
using ::testing::HasSubstr;
using testing::pattern;

TEST(Png, ComesBackAsItWent) {
  for (const auto& [height, width] : {std::pair{1u, 1u}, {3u, 5u}, {64u, 33u}}) {
    const Frame frame = pattern(height, width, height);
    const std::string bytes = encode_png(frame).value();
    const Frame back = decode_png(std::as_bytes(std::span(bytes)), "a.png").value();
    EXPECT_EQ(back.height, height);
    EXPECT_EQ(back.width, width);
    EXPECT_EQ(back.rgb, frame.rgb);
  }
}

TEST(Png, TruncatedAnywhereIsRefused) {
  const std::string bytes = encode_png(pattern(5, 7, 3)).value();
  for (size_t length = 0; length < bytes.size(); ++length) {
    const auto cut = std::as_bytes(std::span(bytes)).first(length);
    const auto made = decode_png(cut, "cut.png");
    ASSERT_FALSE(made.ok()) << length;
    EXPECT_THAT(made.error().text(), HasSubstr("picture rejected: cut.png: found ")) << length;
  }
}

TEST(Png, WithAByteChangedIsPictureOrError) {
  const std::string bytes = encode_png(pattern(5, 7, 3)).value();
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::string bad = bytes;
    bad[at] = static_cast<char>(bad[at] ^ 0x55);
    const auto made = decode_png(std::as_bytes(std::span(bad)), "bad.png");
    if (!made.ok()) continue;
    EXPECT_EQ(made->rgb.size(), size_t{made->height} * made->width * 3);
  }
}

TEST(NaturalOrder, CountsNumbers) {
  std::vector<std::string> names{"f_10.png", "f_2.png", "f_02.png", "f_1.png", "f.png", "e_3.png"};
  std::sort(names.begin(), names.end(), natural_less);
  EXPECT_THAT(names, ElementsAre("e_3.png", "f.png", "f_1.png", "f_02.png", "f_2.png", "f_10.png"));
}

TEST(FrameFolder, IsReadInOrderAndTellsWhatItLeft) {
  const Folder folder;
  folder.write("frame_10.png", pattern(2, 2, 10));
  folder.write("frame_9.PNG", pattern(2, 2, 9));
  folder.write("video.mp4", std::string("x"));
  const FrameFolder read = read_frames(system_files(), folder.path()).value();
  EXPECT_THAT(read.names, ElementsAre("frame_9.PNG", "frame_10.png"));
  EXPECT_EQ(read.frames[0].rgb, pattern(2, 2, 9).rgb);
  EXPECT_THAT(read.notes, ElementsAre(HasSubstr("not a picture, not compared: video.mp4")));
}

TEST(FrameFolder, WithoutPicturesIsRefused) {
  const Folder folder;
  EXPECT_THAT(read_frames(system_files(), folder.path()).error().text(),
              HasSubstr("found no file named *.png"));
  folder.write("a.png", std::string("not a picture at all"));
  EXPECT_THAT(read_frames(system_files(), folder.path()).error().text(),
              HasSubstr("a.png: found other content, expected a PNG file"));
  EXPECT_FALSE(read_frames(system_files(), folder.path("missing")).ok());
}

}  // namespace
}  // namespace loadstone::compare
