#include "deltatune/io/torch_file.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "deltatune/io/safetensors.hpp"
#include "deltatune/io/tensor_file.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

namespace deltatune {
namespace {

using Catch::Contains;
using test::content_of;
using test::error_text;
using test::TemporaryFolder;
using Floats = std::vector<float>;
using Integers = std::vector<std::int64_t>;

std::filesystem::path data(const std::string& name) { return std::filesystem::path(DELTATUNE_TEST_DIR) / "data/torch" / name; }

TorchFile open(const std::string& name) { return TorchFile::open(data(name)); }
std::string open_error(const std::string& name) {
  return error_text([&] { open(name); });
}

TorchFile parse_torch(const std::string& file) { return TorchFile::parse(std::as_bytes(std::span(file)), "x.bin"); }
std::string torch_error(const std::string& file) {
  return error_text([&] { parse_torch(file); });
}

Floats floats(const TensorInfo& tensor) {
  Floats values(static_cast<std::size_t>(element_count(tensor.shape)));
  read_floats<float>(tensor, values);
  return values;
}

template <class File>
std::set<std::string> names(const File& file) {
  std::set<std::string> names;
  for (const auto& [name, tensor] : file.tensors()) names.insert(name);
  return names;
}

Floats counts(int begin, int end) {
  Floats values(static_cast<std::size_t>(end - begin));
  std::iota(values.begin(), values.end(), static_cast<float>(begin));
  return values;
}

// ---- files that torch has written ----

TEST_CASE("PyTorch files: a dict of tensors, in every protocol and in the old format", "[torch_file]") {
  for (const char* name : {"plain.bin", "protocol_3.bin", "protocol_4.bin", "protocol_5.bin", "legacy.bin"}) {
    INFO(name);
    TorchFile opened = open(name);
    const TorchFile file = std::move(opened);
    CHECK(names(file) == std::set<std::string>{"a", "b"});
    const TensorInfo& b = file.at("b");
    CHECK(b.name == "b");
    CHECK(b.file == data(name).string());
    CHECK(b.dtype == DType::F32);
    CHECK(b.shape == Shape{3, 4});
    CHECK(floats(b) == counts(0, 12));
    CHECK(floats(file.at("a")) == Floats{1.5f, -2.0f});
    CHECK(file.find("c") == nullptr);
    CHECK_THAT(error_text([&] { file.at("c"); }), Contains(std::string(name) + ": has no tensor \"c\""));
  }
}

TEST_CASE("PyTorch files: the state dict of a module, and its parameters", "[torch_file]") {
  const std::set<std::string> parameters{"first.bias", "first.weight", "norm.bias", "norm.weight"};
  for (const char* name : {"state_dict.bin", "state_dict_legacy.bin", "parameters.bin"}) {
    INFO(name);
    const TorchFile file = open(name);
    CHECK(file.at("first.weight").shape == Shape{2, 3});
    CHECK(floats(file.at("first.weight")) == counts(0, 6));
    CHECK(floats(file.at("first.bias")) == Floats{0.25f, -0.25f});
    CHECK(floats(file.at("norm.weight")) == Floats{1, 1});
    if (std::string(name) == "parameters.bin") {
      CHECK(names(file) == parameters);
    } else {
      CHECK(file.tensors().size() == parameters.size() + 3);
      CHECK(floats(file.at("norm.running_var")) == Floats{1, 1});
      CHECK(file.at("norm.num_batches_tracked").shape.empty());
      CHECK(read_integers(file.at("norm.num_batches_tracked")) == Integers{0});
    }
  }
}

TEST_CASE("PyTorch files: element types", "[torch_file]") {
  const TorchFile file = open("dtypes.bin");
  CHECK(file.tensors().size() == 10);
  const std::map<std::string, DType> floating{{"float64", DType::F64}, {"float32", DType::F32}, {"float16", DType::F16}, {"bfloat16", DType::BF16}};
  const std::map<std::string, DType> whole{{"int64", DType::I64}, {"int32", DType::I32}, {"int16", DType::I16}, {"int8", DType::I8}, {"uint8", DType::U8}};
  for (const auto& [name, dtype] : floating) {
    INFO(name);
    CHECK(file.at(name).dtype == dtype);
    CHECK(floats(file.at(name)) == Floats{0, 1, 100});
  }
  for (const auto& [name, dtype] : whole) {
    INFO(name);
    CHECK(file.at(name).dtype == dtype);
    CHECK(read_integers(file.at(name)) == Integers{0, 1, 100});
  }
  CHECK(file.at("bool").dtype == DType::BOOL);
  CHECK(read_integers(file.at("bool")) == Integers{0, 1, 1});
}

TEST_CASE("PyTorch files: views are read row by row, wherever they lie in their storage", "[torch_file]") {
  const TorchFile file = open("views.bin");
  const auto check = [&](const char* name, const Shape& shape, const Floats& values) {
    INFO(name);
    CHECK(file.at(name).shape == shape);
    CHECK(floats(file.at(name)) == values);
  };
  check("transposed", {4, 3}, {0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11});
  check("columns", {3, 2}, {1, 2, 5, 6, 9, 10});
  check("rows", {2, 4}, {4, 5, 6, 7, 8, 9, 10, 11});
  check("every_other", {6}, {1, 3, 5, 7, 9, 11});
  check("permuted", {2, 2, 3}, {0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11});
  check("one_row", {1, 3}, {1, 5, 9});
  check("one_column", {3, 1}, {2, 6, 10});
}

TEST_CASE("PyTorch files: tensors that share a storage, and shapes without elements", "[torch_file]") {
  const TorchFile shared = open("shared.bin");
  CHECK(floats(shared.at("whole")) == counts(0, 4));
  CHECK(floats(shared.at("half")) == counts(2, 4));
  CHECK(shared.at("again").bytes.data() == shared.at("whole").bytes.data());
  CHECK(shared.at("half").bytes.data() == shared.at("whole").bytes.data() + 8);

  const TorchFile shapes = open("shapes.bin");
  CHECK(shapes.at("scalar").shape.empty());
  CHECK(floats(shapes.at("scalar")) == Floats{7});
  CHECK(shapes.at("empty").shape == Shape{0, 4});
  CHECK(shapes.at("empty").bytes.empty());
  CHECK(shapes.at("empty_inside").shape == Shape{3, 0, 2});

  CHECK(open("none.bin").tensors().empty());
  std::string longest;
  for (int i = 0; i < 60; ++i) longest += "long.";
  CHECK(names(open("names.bin")) == std::set<std::string>{"", "größe.重み", longest});
}

TEST_CASE("A file of tensors is opened by its name", "[torch_file]") {
  const TemporaryFolder folder;
  SafeTensorsWriter writer;
  writer.add_copy("a", {2}, Floats{3, 4});
  writer.write(folder / "adapter_model.safetensors");
  TensorFile opened = TensorFile::open(folder / "adapter_model.safetensors");
  const TensorFile safe = std::move(opened);
  CHECK(names(safe) == std::set<std::string>{"a"});
  CHECK(floats(safe.at("a")) == Floats{3, 4});
  const TensorFile torch = TensorFile::open(data("plain.bin"));
  CHECK(names(torch) == std::set<std::string>{"a", "b"});
  CHECK(floats(torch.at("a")) == Floats{1.5f, -2.0f});
  CHECK(torch.find("c") == nullptr);
  CHECK_THAT(error_text([&] { torch.at("c"); }), Contains("plain.bin: has no tensor \"c\""));
  CHECK_THAT(error_text([&] { TensorFile::open(folder / "none.bin"); }), Contains("cannot open the file"));
}

// ---- what is refused ----

TEST_CASE("PyTorch files: functions that a file wants to run are named and not run", "[torch_file]") {
  CHECK_THAT(open_error("evil_system.bin"), Contains("evil_system.bin: data.pkl: byte ") && Contains("wants to use \"posix.system\"") &&
                                                Contains("expected nothing but tensors, their storages and dictionaries") && Contains("nothing of it was run"));
  CHECK_THAT(open_error("evil_eval.bin"), Contains("wants to use \"__builtin__.eval\""));
  CHECK_THAT(open_error("evil_protocol_4.bin"), Contains("wants to use \"builtins.eval\""));
  CHECK_THAT(open_error("evil_legacy.bin"), Contains("evil_legacy.bin: tensors: byte") && Contains("wants to use \"posix.system\""));
  CHECK_THAT(open_error("module.bin"), Contains("wants to use \"torch.nn.modules.linear.Linear\""));
  CHECK_THAT(open_error("sparse.bin"), Contains("wants to use \"torch._utils._rebuild_sparse_tensor\""));
  CHECK_THAT(open_error("unsigned.bin"), Contains("wants to use \"torch._utils._rebuild_tensor_v3\""));
  CHECK_THAT(open_error("complex.bin"), Contains("wants to use \"torch.ComplexFloatStorage\""));
  CHECK_THAT(open_error("conjugate.bin"), Contains("x: is a tensor of an unknown kind") && Contains("got 7 arguments"));
}

TEST_CASE("PyTorch files: what is no state dict", "[torch_file]") {
  CHECK_THAT(open_error("tensor.bin"), Contains("tensor.bin: does not hold a state dict; expected a dict of names and tensors, got what "
                                                "torch._utils._rebuild_tensor_v2 makes (save a state dict alone"));
  CHECK_THAT(open_error("list.bin"), Contains("does not hold a state dict") && Contains("got a list"));
  CHECK_THAT(open_error("nested.bin"), Contains("nested.bin: model: is not a tensor; expected a tensor, got a dict (save a state dict"));
  CHECK_THAT(open_error("integer.bin"), Contains("integer.bin: x: is not a tensor; expected a tensor, got 3"));
  CHECK_THAT(open_error("key.bin"), Contains("a key of the state dict is not a name; expected text, got 1"));
  CHECK_THAT(open_error("expanded.bin"), Contains("expanded.bin: x: is much larger than what the file stores for it; got shape [1000, 1000], "
                                                  "strides [0, 0] (save tensor.contiguous())"));
}

TEST_CASE("PyTorch files: other files", "[torch_file]") {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& content) { return error_text([&] { TorchFile::open(folder.file("x.bin", content)); }); };
  CHECK_THAT(refused(""), Contains("x.bin: is not a PyTorch file; expected a file that torch.save has written"));
  CHECK_THAT(refused("version https://git-lfs.github.com/spec/v1\n"), Contains("is a Git LFS pointer"));
  CHECK_THAT(refused("PK\3\4"), Contains("is too short for a zip archive; got 4 bytes"));
  CHECK_THAT(refused("PK\3\4" + std::string(100, 'x')), Contains("is not the last record of a zip archive"));
  CHECK_THAT(refused("\x80\2}."), Contains("is not a PyTorch file"));
  CHECK_THAT(error_text([&] { TorchFile::open(folder.path()); }), Contains("is not a regular file"));
}

TEST_CASE("PyTorch files: archives that contradict themselves or are packed", "[torch_file]") {
  const std::string whole = content_of(data("plain.bin"));
  const std::string name = "plain/version";
  const std::size_t entry = whole.rfind(name) - 46;  // in the directory
  const auto with = [&](std::size_t at, std::string_view bytes) { return std::string(whole).replace(at, bytes.size(), bytes); };
  CHECK_THAT(torch_error(with(whole.find(name), "plain/VERSION")),
             Contains("plain/version: byte") && Contains("has another name in the directory of the archive"));
  CHECK_THAT(torch_error(with(entry + 42, std::string(4, '\0'))), Contains("plain/version: byte 0: begins inside the entry before it"));
  CHECK_THAT(torch_error(with(entry + 42, "\xff\xff\xff\x7f")), Contains("plain/version: byte 0: is truncated or corrupt"));
  CHECK_THAT(torch_error(with(entry + 10, "\x08")), Contains("plain/version: is compressed") && Contains("write the file with torch.save"));
  CHECK_THAT(torch_error(with(entry + 8, "\x09")), Contains("plain/version: is encrypted"));
  CHECK_THAT(torch_error(with(entry + 24, "\xff\xff\xff\x7f")), Contains("plain/version: is compressed"));
  CHECK_THAT(torch_error(with(whole.size() - 2, "\1")), Contains("has a comment at the end"));
  CHECK_THAT(torch_error(with(whole.rfind("plain/data/1") + 11, "0")), Contains("plain/data/0: byte"));
  CHECK_THAT(torch_error(with(whole.find("little"), "bigger")), Contains("plain/byteorder: does not match its checksum"));
}

TEST_CASE("PyTorch files: cut at any byte, every file is refused", "[torch_file]") {
  for (const char* name : {"plain.bin", "protocol_4.bin", "state_dict.bin", "legacy.bin", "state_dict_legacy.bin"}) {
    INFO(name);
    const std::string whole = content_of(data(name));
    CHECK_NOTHROW(parse_torch(whole));
    for (std::size_t size = 0; size < whole.size(); ++size) {
      INFO(size);
      CHECK_THROWS_AS(parse_torch(whole.substr(0, size)), Error);
    }
    CHECK_THROWS_AS(parse_torch(whole + '\0'), Error);
  }
}

TEST_CASE("PyTorch files: with any byte changed, a zip archive is refused or says the same", "[torch_file]") {
  for (const char* name : {"plain.bin", "views.bin", "state_dict.bin", "shapes.bin"}) {
    INFO(name);
    std::string file = content_of(data(name));
    const auto values = [](const TorchFile& tensors) {
      std::map<std::string, Floats> all;
      for (const auto& [key, tensor] : tensors.tensors())
        all[key] = tensor.dtype == DType::F32 ? floats(tensor) : Floats(static_cast<std::size_t>(read_integers(tensor).at(0)));
      return all;
    };
    const std::map<std::string, Floats> right = values(parse_torch(file));
    int refused = 0;
    for (std::size_t i = 0; i < file.size(); ++i) {
      for (const unsigned flip : {0x01U, 0x80U, 0xFFU}) {
        const char kept = file[i];
        file[i] = static_cast<char>(static_cast<unsigned char>(kept) ^ flip);
        std::map<std::string, Floats> found = right;
        try {
          found = values(parse_torch(file));
        } catch (const Error&) {
          ++refused;
        }
        CHECK(found == right);
        file[i] = kept;
      }
    }
    CHECK(refused > static_cast<int>(file.size()));
  }
}

TEST_CASE("PyTorch files: with any byte changed, the old format is refused or read", "[torch_file]") {
  std::string file = content_of(data("state_dict_legacy.bin"));
  for (std::size_t i = 0; i < file.size(); ++i) {
    const char kept = file[i];
    for (const unsigned flip : {0x01U, 0x02U, 0x10U, 0x80U, 0xFFU}) {
      file[i] = static_cast<char>(static_cast<unsigned char>(kept) ^ flip);
      try {
        const TorchFile tensors = parse_torch(file);
        for (const auto& [name, tensor] : tensors.tensors())
          if (tensor.dtype == DType::F32) floats(tensor);
      } catch (const Error&) {
      }
    }
    file[i] = kept;
  }
}

// ---- pickles made by hand, in the old format, which needs no checksums ----

template <class T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

std::string text(std::string_view value) { return "X" + raw(static_cast<std::uint32_t>(value.size())) + std::string(value); }
std::string number(std::int64_t value) { return "\x8a\x08" + raw(value); }
std::string global(const std::string& scope, const std::string& name) { return "c" + scope + "\n" + name + "\n"; }
std::string tuple(const std::vector<std::int64_t>& values) {
  std::string pickle = "(";
  for (const std::int64_t value : values) pickle += number(value);
  return pickle + "t";
}

std::string storage(const std::string& key = "0", std::int64_t elements = 4, const std::string& type = "FloatStorage") {
  return "(" + text("storage") + global("torch", type) + text(key) + text("cpu") + number(elements) + "tQ";
}

std::string tensor(const std::string& stored, std::int64_t offset, const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& strides) {
  return global("torch._utils", "_rebuild_tensor_v2") + "(" + stored + number(offset) + tuple(shape) + tuple(strides) + "\x89)tR";
}

std::string dict(const std::string& items) { return "}(" + items + "u"; }

std::string legacy(const std::string& pickle, const std::string& keys = "(" + text("0") + "e",
                   const std::string& stored = raw(std::int64_t{4}) + std::string(16, '\1'), std::int64_t version = 1001) {
  const std::string magic = "\x80\2\x8a\nl\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
  return magic + "\x80\2" + number(version) + "." + "\x80\2}." + "\x80\2" + pickle + "." + "\x80\2]" + keys + "." + stored;
}

std::string no_storage(const std::string& pickle) { return legacy(pickle, "", ""); }

std::string one(std::int64_t offset, const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& strides) {
  return legacy(dict(text("x") + tensor(storage(), offset, shape, strides)));
}

constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();

TEST_CASE("PyTorch files: shapes, offsets and strides stay inside their storage", "[torch_file]") {
  CHECK(parse_torch(one(0, {2, 2}, {2, 1})).at("x").bytes.size() == 16);
  CHECK(parse_torch(one(1, {2}, {2})).at("x").bytes.size() == 8);
  CHECK(parse_torch(one(3, {1, 1}, {kHuge, kHuge})).at("x").bytes.size() == 4);
  CHECK(parse_torch(one(0, {1, 2, 1}, {kHuge, 2, kHuge})).at("x").bytes.size() == 8);
  CHECK(parse_torch(one(0, {5, 2}, {0, 2})).at("x").bytes.size() == 40);
  CHECK(parse_torch(one(kHuge, {0, kHuge}, {1, 1})).at("x").bytes.empty());
  CHECK(parse_torch(one(0, std::vector<std::int64_t>(64, 1), std::vector<std::int64_t>(64, 1))).at("x").shape.size() == 64);

  CHECK(torch_error(one(0, {2, 2}, {3, 1})) ==
        "x.bin: x: reaches beyond the end of its storage; expected at most 4 elements, got offset 0, shape [2, 2], strides [3, 1]");
  CHECK_THAT(torch_error(one(1, {2, 2}, {2, 1})), Contains("beyond the end of its storage"));
  CHECK_THAT(torch_error(one(4, {}, {})), Contains("beyond the end of its storage"));
  CHECK_THAT(torch_error(one(kHuge, {1}, {1})), Contains("beyond the end of its storage"));
  CHECK_THAT(torch_error(one(kHuge, {2}, {1})), Contains("beyond the end of its storage"));
  CHECK_THAT(torch_error(one(0, {5}, {1})), Contains("beyond the end of its storage"));
  CHECK_THAT(torch_error(one(0, {2, 2}, {kHuge, kHuge})), Contains("beyond the end of its storage"));
  CHECK_THAT(torch_error(one(0, {std::int64_t{1} << 60}, {1})), Contains("beyond the end of its storage"));
  CHECK_THAT(torch_error(one(0, {std::int64_t{1} << 60}, {0})), Contains("x: is much larger than what the file stores for it"));
  CHECK_THAT(torch_error(one(0, {kHuge}, {0})), Contains("x: shape: has too many elements for 64 bits"));
  CHECK_THAT(torch_error(one(0, {std::int64_t{1} << 32, std::int64_t{1} << 32}, {0, 0})), Contains("has too many elements"));
  CHECK_THAT(torch_error(one(-1, {2}, {1})), Contains("x: offset: wrong value; expected an integer from 0 to 2^63-1, got -1"));
  CHECK_THAT(torch_error(one(0, {-2}, {1})), Contains("x: shape: wrong value") && Contains("got -2"));
  CHECK_THAT(torch_error(one(3, {2}, {-1})), Contains("x: strides: wrong value") && Contains("got -1"));
  CHECK_THAT(torch_error(one(0, {2, 2}, {1})), Contains("x: the number of strides does not fit the shape; expected 2, got 1"));
  CHECK_THAT(torch_error(one(0, std::vector<std::int64_t>(65, 1), std::vector<std::int64_t>(65, 1))),
             Contains("x: shape: wrong value; expected a tuple of at most 64 integers, got a tuple of 65"));
}

TEST_CASE("PyTorch files: copies cannot grow beyond the size of the file", "[torch_file]") {
  std::string items;
  for (int i = 0; i < 1000; ++i) items += text(std::to_string(i)) + "h\1";
  const auto file = [&](std::int64_t extent) {
    return legacy(dict(text("x") + tensor(storage(), 0, {extent}, {0}) + "q" + std::string(1, '\0') + "q\1" + items));
  };
  CHECK(parse_torch(file(2)).tensors().size() == 1001);
  CHECK_THAT(torch_error(file(8)), Contains("is much larger than what the file stores for it"));
}

TEST_CASE("PyTorch files: storages are there, once, with the size and type that tensors expect", "[torch_file]") {
  const std::string x = text("x") + tensor(storage(), 0, {4}, {1});
  const std::string four = raw(std::int64_t{4}) + std::string(16, '\1');
  const std::string key = "(" + text("0") + "e";
  CHECK_NOTHROW(parse_torch(legacy(dict(x))));
  CHECK_THAT(torch_error(legacy(dict(x + text("y") + tensor(storage("0", 5), 0, {4}, {1})))),
             Contains("x.bin: storage 0: is described in two ways that do not agree"));
  CHECK_THAT(torch_error(legacy(dict(x + text("y") + tensor(storage("0", 4, "IntStorage"), 0, {4}, {1})))), Contains("do not agree"));
  CHECK_THAT(torch_error(legacy(dict(x), "", "")), Contains("x.bin: does not hold the storage 0"));
  CHECK_THAT(torch_error(legacy(dict(x), "(" + text("0") + text("1") + "e", four + four)), Contains("a storage belongs to no tensor"));
  CHECK_THAT(torch_error(legacy(dict(x), "(" + text("0") + text("0") + "e", four + four)), Contains("or occurs twice"));
  CHECK_THAT(torch_error(legacy(dict(x), key, raw(std::int64_t{3}) + std::string(12, '\1'))),
             Contains("a storage has another size than its tensors say; expected 4 elements, got 3"));
  CHECK_THAT(torch_error(legacy(dict(x), key, four + "x")), Contains("bytes at the end that belong to no storage; got 1"));
  CHECK_THAT(torch_error(legacy(dict(x), key, four.substr(1))),
             Contains("is truncated or corrupt; expected 16 more bytes, got 15") || Contains("has another size"));
  const std::string huge = dict(text("x") + tensor(storage("0", kHuge), 0, {4}, {1}));
  CHECK_THAT(torch_error(legacy(huge, key, raw(kHuge))), Contains("has too many elements for 64 bits"));
  const std::string large = dict(text("x") + tensor(storage("0", kHuge / 4), 0, {4}, {1}));
  CHECK_THAT(torch_error(legacy(large, key, raw(kHuge / 4))), Contains("is truncated or corrupt"));
  CHECK_THAT(torch_error(legacy(dict(text("x") + tensor(storage("0", -1), 0, {0}, {1})))), Contains("describes a storage in an unknown way"));
  CHECK_THAT(torch_error(legacy(dict(text("x") + tensor(storage(std::string(65, '0')), 0, {4}, {1})))), Contains("in an unknown way"));
  CHECK_THAT(torch_error(legacy(dict(text("x") + "NQ"))), Contains("in an unknown way; got None"));
  CHECK_THAT(torch_error(legacy(dict(text("x") + "(" + text("storage") + global("collections", "OrderedDict") + text("0") + text("cpu") + "K\4tQ"))),
             Contains("is not a type of storage; got collections.OrderedDict"));
  CHECK_THAT(torch_error(legacy(dict(x), "", "", 1002)), Contains("unknown version of the format; expected 1001, got 1002"));
}

TEST_CASE("PyTorch files: tensors are made by the known calls only", "[torch_file]") {
  const std::string rebuild = global("torch._utils", "_rebuild_tensor_v2");
  const std::string parameter = global("torch._utils", "_rebuild_parameter");
  const auto x = [](const std::string& value) { return legacy(dict(text("x") + value)); };
  const auto bare = [](const std::string& value) { return no_storage(dict(text("x") + value)); };
  CHECK_NOTHROW(parse_torch(x(parameter + tensor(storage(), 0, {4}, {1}) + "\x88)\x87R")));
  CHECK_THAT(torch_error(x(parameter + parameter + tensor(storage(), 0, {4}, {1}) + "\x88)\x87R\x88)\x87R")), Contains("x: is not a tensor"));
  CHECK_THAT(torch_error(bare(parameter + ")R")), Contains("got what torch._utils._rebuild_parameter makes"));
  CHECK_THAT(torch_error(bare(rebuild + ")R")), Contains("x: is a tensor of an unknown kind") && Contains("got 0 arguments"));
  CHECK_THAT(torch_error(bare(rebuild + "(NNNNNNtR")), Contains("x: is a tensor of an unknown kind"));
  CHECK_THAT(torch_error(x(rebuild + "(" + storage() + "NNNNNtR")), Contains("x: offset: wrong value") && Contains("got None"));
  CHECK_THAT(torch_error(x(storage())), Contains("x: is not a tensor; expected a tensor, got a storage"));
  CHECK_THAT(torch_error(bare(global("torch", "FloatStorage"))), Contains("got torch.FloatStorage"));
  CHECK_THAT(torch_error(legacy(dict(text("x") + tensor(storage(), 0, {4}, {1}) + text("x") + tensor(storage(), 0, {4}, {1})))),
             Contains("x.bin: x: occurs twice"));
  CHECK_THAT(torch_error(no_storage(dict(text("\xff\x1b[31m") + "N"))),
             Contains("a key of the state dict is not a name; expected text, got the text \"??[31m\""));
}

TEST_CASE("Pickles: the stack machine checks every operand", "[torch_file]") {
  const auto refused = [](const std::string& pickle) { return torch_error(legacy(pickle)); };
  CHECK_THAT(refused(""), Contains("x.bin: tensors: byte 3: an operand is missing on the stack"));
  CHECK_THAT(refused("}}"), Contains("stops before it is finished"));
  CHECK_THAT(refused("}("), Contains("an operand is missing"));
  CHECK_THAT(refused("(}"), Contains("stops before it is finished"));
  CHECK_THAT(refused("t"), Contains("a mark is missing"));
  CHECK_THAT(refused("N(\x85"), Contains("an operand is missing"));
  CHECK_THAT(refused("\x87"), Contains("an operand is missing"));
  CHECK_THAT(refused("s"), Contains("an operand is missing"));
  CHECK_THAT(refused("NNs"), Contains("an operand is missing"));
  CHECK_THAT(refused("NNNs"), Contains("adds to something that is no list or dict"));
  CHECK_THAT(refused("](NNu"), Contains("adds to something that is no list or dict"));
  CHECK_THAT(refused("}(NNe"), Contains("adds to something that is no list or dict"));
  CHECK_THAT(refused("}(Nu"), Contains("a key of a dict has no value"));
  CHECK_THAT(refused("NNb"), Contains("sets attributes of something that is no dict"));
  CHECK_THAT(refused("}b"), Contains("an operand is missing"));
  CHECK_THAT(refused("NNR"), Contains("an operand of the wrong kind"));
  CHECK_THAT(refused("N)R"), Contains("an operand of the wrong kind"));
  CHECK_THAT(refused("NN\x93"), Contains("an operand of the wrong kind"));
  CHECK_THAT(refused(global("collections", "OrderedDict") + "N\x85R"), Contains("makes an OrderedDict with arguments"));
  CHECK_THAT(refused(text("os") + text("system") + "\x93"), Contains("wants to use \"os.system\""));
  CHECK_THAT(refused(global("torch", "FloatStorage.x")), Contains("wants to use \"torch.FloatStorage.x\""));
  CHECK_THAT(refused(global("torch", "")), Contains("wants to use \"torch.\""));
  CHECK_THAT(refused(global("torch.FloatStorage", "")), Contains("wants to use \"torch.FloatStorage.\""));
  CHECK_THAT(refused("h" + std::string(1, '\0')), Contains("refers to a value that it has not made"));
  CHECK_THAT(refused("j\xff\xff\xff\xff"), Contains("refers to a value that it has not made"));
  CHECK_THAT(refused("}q\1"), Contains("numbers its values out of order"));
  CHECK_THAT(refused("}r\xff\xff\xff\xff"), Contains("numbers its values out of order"));
  CHECK_THAT(refused("\x94"), Contains("an operand is missing"));
  CHECK_THAT(refused("X\xff\xff\xff\xffx"), Contains("is truncated or corrupt; expected 4294967295 more bytes"));
  CHECK_THAT(refused("\x8d" + raw(kHuge)), Contains("is truncated or corrupt; expected 9223372036854775807 more bytes"));
  CHECK_THAT(refused("\x8d" + raw(std::uint64_t{0} - 1)), Contains("is truncated or corrupt"));
  CHECK_THAT(refused("\x8a\x09" + std::string(9, '\1')), Contains("an integer does not fit 64 bits"));
  CHECK_THAT(refused("\x80\6"), Contains("unknown pickle protocol; expected 2 to 5, got 6"));
  CHECK_THAT(refused("\x81"), Contains("an instruction that a file of tensors does not need; got code 129"));
  CHECK_THAT(refused("i"), Contains("an instruction that a file of tensors does not need"));
}

TEST_CASE("Pickles: values may hold themselves and be as deep as they like", "[torch_file]") {
  const std::string zero(1, '\0');
  CHECK_THAT(torch_error(no_storage("}q" + zero + text("x") + "h" + zero + "s")), Contains("x: is not a tensor; expected a tensor, got a dict"));
  CHECK_THAT(torch_error(no_storage(dict(text("x") + ")" + std::string(1'000'000, '\x85')))), Contains("got a tuple of 1"));
  std::string doubled = ")";
  for (int i = 0; i < 200; ++i) doubled += "q" + std::string(1, static_cast<char>(i)) + "h" + std::string(1, static_cast<char>(i)) + "\x86";
  CHECK_THAT(torch_error(no_storage(dict(text("x") + doubled))), Contains("got a tuple of 2"));
  CHECK_THAT(torch_error(legacy(dict(text("x") + std::string(5'000'000, '(')))), Contains("is too large; expected at most 4194304 bytes"));
}

}  // namespace
}  // namespace deltatune
