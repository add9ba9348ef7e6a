#include "common/cpu.hpp"

#include <gtest/gtest.h>

namespace loadstone::common {
namespace {

TEST(Cpu, TakesTheBestLevelByDefault) {
  EXPECT_EQ(choose_cpu(nullptr, Cpu::avx512, true).cpu, Cpu::avx512);
  EXPECT_EQ(choose_cpu(nullptr, Cpu::scalar, true).cpu, Cpu::scalar);
}

TEST(Cpu, ForcedLevelDecides) {
  EXPECT_EQ(choose_cpu("scalar", Cpu::avx512, true).cpu, Cpu::scalar);
  EXPECT_EQ(choose_cpu("avx2", Cpu::avx512, true).cpu, Cpu::avx2);
  EXPECT_EQ(choose_cpu("avx512", Cpu::avx512, true).cpu, Cpu::avx512);
  EXPECT_EQ(choose_cpu("avx512", Cpu::avx512, true).error, "");
}

TEST(Cpu, RefusesALevelThatTheMachineLacks) {
  EXPECT_EQ(choose_cpu("avx512", Cpu::avx2, true).error,
            "instruction set not available: LOADSTONE_CPU: found \"avx512\", expected at most "
            "\"avx2\" on this machine");
}

TEST(Cpu, VnniIsAvx512WithoutTiles) {
  EXPECT_TRUE(choose_cpu(nullptr, Cpu::avx512, true).tiles);
  EXPECT_TRUE(choose_cpu("avx512", Cpu::avx512, true).tiles);
  const CpuChoice vnni = choose_cpu("avx512vnni", Cpu::avx512, true);
  EXPECT_EQ(vnni.cpu, Cpu::avx512);
  EXPECT_FALSE(vnni.tiles);
  EXPECT_EQ(vnni.error, "");
  EXPECT_EQ(choose_cpu("avx512vnni", Cpu::avx512, false).error,
            "instruction set not available: LOADSTONE_CPU: found \"avx512vnni\", expected at most "
            "\"avx512\" on this machine");
}

TEST(Cpu, RefusesAnUnknownLevel) {
  const char* text = "unknown instruction set: LOADSTONE_CPU: found \"";
  const char* wanted = "\", expected scalar, avx2, avx512 or avx512vnni";
  EXPECT_EQ(choose_cpu("", Cpu::avx2, true).error, std::string(text) + wanted);
  EXPECT_EQ(choose_cpu("AVX2", Cpu::avx2, true).error, std::string(text) + "AVX2" + wanted);
  EXPECT_EQ(choose_cpu("a\n\"b", Cpu::avx2, true).error, std::string(text) + "a??b" + wanted);
}

TEST(Cpu, ProcessChoiceIsFine) { EXPECT_EQ(cpu_choice().error, ""); }

}  // namespace
}  // namespace loadstone::common
