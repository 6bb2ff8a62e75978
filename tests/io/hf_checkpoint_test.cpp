#include "deltatune/io/hf_checkpoint.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

namespace deltatune {
namespace {

using Catch::Contains;
using test::error_text;
using test::TemporaryFolder;

void write_tensors(const std::filesystem::path& path, const std::vector<std::string>& names) {
  SafeTensorsWriter writer;
  for (const std::string& name : names) writer.add_copy(name, {2}, std::vector<float>{1, 2});
  writer.write(path);
}

std::string open_error(const TemporaryFolder& folder) {
  return error_text([&] { HfCheckpoint::open(folder.path()); });
}

TEST_CASE("HfCheckpoint: one file", "[hf_checkpoint]") {
  const TemporaryFolder folder;
  folder.file("config.json", R"({"hidden_size": 2})");
  write_tensors(folder / "model.safetensors", {"a", "b"});
  folder.file("model.safetensors.index.json", "not looked at");
  HfCheckpoint opened = HfCheckpoint::open(folder.path());
  const HfCheckpoint checkpoint = std::move(opened);
  CHECK(checkpoint.config().get<std::int64_t>("hidden_size") == 2);
  CHECK(checkpoint.folder() == folder.path());
  REQUIRE(checkpoint.tensors().size() == 2);
  std::vector<float> values(2);
  read_floats<float>(checkpoint.tensors().at("b"), values);
  CHECK(values == std::vector<float>{1, 2});
}

TEST_CASE("HfCheckpoint: shards", "[hf_checkpoint]") {
  const TemporaryFolder folder;
  folder.file("config.json", "{}");
  const auto index = [&](const std::string& map) { folder.file("model.safetensors.index.json", R"({"metadata": {}, "weight_map": )" + map + "}"); };
  write_tensors(folder / "1.safetensors", {"a", "b"});
  write_tensors(folder / "2.safetensors", {"c"});

  index(R"({"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"})");
  const HfCheckpoint checkpoint = HfCheckpoint::open(folder.path());
  REQUIRE(checkpoint.tensors().size() == 3);
  std::vector<float> values(2);
  for (const auto& [name, tensor] : checkpoint.tensors()) read_floats<float>(tensor, values);  // the first file must outlive the second's opening
  CHECK(checkpoint.tensors().at("a").file == (folder / "1.safetensors").string());

  SECTION("a tensor is in another shard than the index says") {
    index(R"({"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"})");
    CHECK_THAT(open_error(folder),
               Contains("weight_map: b: the tensor is not in its shard") && Contains("2.safetensors, got it in ") && Contains("1.safetensors"));
  }
  SECTION("a tensor is in no shard") {
    index(R"({"a": "1.safetensors", "d": "1.safetensors"})");
    CHECK_THAT(open_error(folder), Contains("weight_map: d: the tensor is not in its shard") && Contains("got it in no shard"));
  }
  SECTION("a tensor is in two shards") {
    write_tensors(folder / "2.safetensors", {"a", "c"});
    CHECK_THAT(open_error(folder), Contains("2.safetensors: a: stands in another shard too: ") && Contains("1.safetensors"));
  }
  SECTION("a shard is missing") {
    std::filesystem::remove(folder / "2.safetensors");
    CHECK_THAT(open_error(folder), Contains("2.safetensors: is missing") && Contains("index.json"));
  }
  SECTION("a shard is truncated") {
    std::filesystem::resize_file(folder / "2.safetensors", std::filesystem::file_size(folder / "2.safetensors") - 1);
    CHECK_THAT(open_error(folder), Contains("2.safetensors: c: data_offsets: reaches beyond the end of the file"));
  }
  SECTION("the index leaves the folder or is no index") {
    index(R"({"a": "../1.safetensors"})");
    CHECK_THAT(open_error(folder), Contains("weight_map: a: wrong shard") && Contains("in the same folder"));
    index(R"({"a": 1})");
    CHECK_THAT(open_error(folder), Contains("weight_map: a: wrong type; expected a string"));
    folder.file("model.safetensors.index.json", "{}");
    CHECK_THAT(open_error(folder), Contains("weight_map: is missing"));
  }
}

TEST_CASE("HfCheckpoint: the hash of the tensors, however they are spread over files", "[hf_checkpoint]") {
  const auto hash_of = [](const std::vector<float>& b, const Shape& shape, bool sharded) {
    const TemporaryFolder folder;
    folder.file("config.json", "{}");
    folder.file("model.safetensors.index.json", R"({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})");
    SafeTensorsWriter first, second;
    first.add_copy("a", {2}, std::vector<float>{1, 2});
    (sharded ? second : first).add_copy("b", shape, b);
    first.write(folder / (sharded ? "1.safetensors" : "model.safetensors"));
    if (sharded) second.write(folder / "2.safetensors");
    return HfCheckpoint::open(folder.path()).content_hash();
  };
  const std::string hash = hash_of({3, 4}, {2}, false);
  CHECK(hash_of({3, 4}, {2}, true) == hash);
  CHECK(hash_of({3, 5}, {2}, false) != hash);
  CHECK(hash_of({3, 4}, {1, 2}, false) != hash);
}

TEST_CASE("HfCheckpoint: folders that are none", "[hf_checkpoint]") {
  const TemporaryFolder folder;
  CHECK_THAT(error_text([&] { HfCheckpoint::open(folder / "none"); }), Contains("none: no such folder"));
  CHECK_THAT(error_text([&] { HfCheckpoint::open(folder.file("plain", "")); }), Contains("plain: is not a folder"));
  CHECK_THAT(open_error(folder), Contains("has no config.json") && Contains("give the folder that holds"));
  folder.file("adapter_config.json", "{}");
  CHECK_THAT(open_error(folder), Contains("has no config.json") && Contains("this is an adapter"));
  folder.file("config.json", "{");
  CHECK_THAT(open_error(folder), Contains("has no weights; expected model.safetensors or model.safetensors.index.json"));
  folder.file("pytorch_model.bin", "");
  CHECK_THAT(open_error(folder), Contains("pytorch_model.bin only") && Contains("safe_serialization=True"));
  write_tensors(folder / "model.safetensors", {"a"});
  CHECK_THAT(open_error(folder), Contains("config.json: not valid JSON"));
}

}  // namespace
}  // namespace deltatune
