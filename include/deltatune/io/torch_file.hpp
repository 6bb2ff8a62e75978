// Files of PyTorch (torch.save: .bin, .pt, .pth) that hold a state dict: names and tensors. Nothing in the file is ever run.
//   since 1.6   a zip archive: data.pkl, the dict as a pickle, and one entry data/<key> for each storage
//   before      pickles of a magic number, a version, the system, the dict and the list of storage keys; then the storages
// What such files hold is laid down in PyTorch's torch/serialization.py and torch/_utils.py alone.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <forward_list>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/core/shape.hpp"
#include "deltatune/core/utf8.hpp"
#include "deltatune/io/byte_cursor.hpp"
#include "deltatune/io/mapped_file.hpp"
#include "deltatune/io/pickle.hpp"
#include "deltatune/io/stored_zip.hpp"
#include "deltatune/io/tensor_info.hpp"

namespace deltatune {

namespace detail {

// All that a pickle of tensors may name: storages, by their element type, and after them what is made of them.
inline constexpr std::array kTorchStorages = {DType::F64, DType::F32, DType::F16, DType::BF16, DType::I64,
                                              DType::I32, DType::I16, DType::I8,  DType::U8,   DType::BOOL};
inline constexpr std::array<std::string_view, kTorchStorages.size() + 3> kTorchGlobals = {
    // clang-format off
    "torch.DoubleStorage", "torch.FloatStorage", "torch.HalfStorage", "torch.BFloat16Storage", "torch.LongStorage",
    "torch.IntStorage", "torch.ShortStorage", "torch.CharStorage", "torch.ByteStorage", "torch.BoolStorage",
    "collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter",
    // clang-format on
};

}  // namespace detail

class TorchFile : public TensorTable {
 public:
  DELTATUNE_FUNCTION static TorchFile open(const std::filesystem::path& path) {
    MappedFile file(path);
    TorchFile tensors = parse(file.bytes(), path.string());
    tensors.file_ = std::move(file);
    return tensors;
  }

  // Reads from memory that the caller keeps; `name` stands for the file in messages.
  DELTATUNE_FUNCTION static TorchFile parse(std::span<const std::byte> bytes, std::string name) {
    constexpr std::string_view kZip = "PK\3\4", kLegacy = "\x80\2\x8a\nl\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    TorchFile tensors(std::move(name));
    tensors.copies_left_ = static_cast<Index>(bytes.size());
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (text.starts_with(kZip)) {
      tensors.read_zip(bytes);
    } else if (text.starts_with(kLegacy)) {
      tensors.read_legacy(bytes, kLegacy.size());
    } else {
      throw Error(tensors.name_, "is not a PyTorch file", {.expected = "a file that torch.save has written"});
    }
    return tensors;
  }

 private:
  using Kind = PickleValue::Kind;

  struct Storage {
    DType dtype;
    Index elements;
    std::optional<std::span<const std::byte>> bytes;
  };
  using Storages = std::map<std::string_view, Storage, std::less<>>;

  static constexpr std::size_t kMaxRank = 64;       // PyTorch's own
  static constexpr std::size_t kMaxKeyLength = 64;  // of a storage: a number
  static constexpr const char* kRemedy = "save a state dict alone: torch.save(model.state_dict(), file)";

  explicit TorchFile(std::string name) : TensorTable(std::move(name)) {}

  DELTATUNE_FUNCTION void read_zip(std::span<const std::byte> bytes) {
    const ZipEntries entries = read_stored_zip(bytes, name_);
    constexpr std::string_view kPickle = "/data.pkl";
    const auto is_pickle = [&](const auto& entry) { return entry.first.ends_with(kPickle) && entry.first.find('/') == entry.first.size() - kPickle.size(); };
    const auto found = std::ranges::find_if(entries, is_pickle);
    if (found == entries.end()) throw Error(name_, "is a zip archive, but not one of PyTorch", {.expected = "an entry <name>/data.pkl"});
    const std::string root = found->first.substr(0, found->first.find('/') + 1);
    if (const auto order = entries.find(root + "byteorder"); order != entries.end() && text_of(order->second) != "little")
      throw Error(name_ + ": byteorder", "is not supported", {.expected = "little", .got = detail::printable(text_of(order->second))});

    const std::string where = name_ + ": data.pkl";
    const Pickle pickle = Pickle::read(found->second, where, detail::kTorchGlobals);
    if (pickle.size() != found->second.size()) throw Error(where, "has bytes after its end");
    Storages storages = declared_storages(pickle);
    for (auto& [key, storage] : storages) {
      const auto entry = entries.find(root + "data/" + std::string(key));
      const std::string place = name_ + ": data/" + detail::printable(key);
      if (entry == entries.end()) throw Error(place, "is missing", {.remedy = "the file is incomplete; fetch it again"});
      // Rounded down, as PyTorch counts the elements of a storage.
      const auto elements = static_cast<Index>(entry->second.size()) / size_of(storage.dtype);
      if (elements != storage.elements) {
        throw Error(place, "has another size than its tensors say",
                    {.expected = std::to_string(storage.elements) + " elements", .got = std::to_string(elements)});
      }
      storage.bytes = entry->second;
    }
    read_tensors(pickle.root(), storages);
  }

  DELTATUNE_FUNCTION void read_legacy(std::span<const std::byte> bytes, std::size_t magic_size) {
    ByteCursor cursor(bytes, name_);
    cursor.take(magic_size);
    const auto next_pickle = [&](const std::string& what) {
      Pickle pickle = Pickle::read(bytes.subspan(cursor.position()), name_ + ": " + what, detail::kTorchGlobals);
      cursor.take(pickle.size());
      return pickle;
    };
    const Pickle version = next_pickle("version");
    if (version.root().kind != Kind::kInteger || version.root().integer != 1001)
      throw Error(name_, "unknown version of the format", {.expected = "1001", .got = detail::describe_pickled(version.root())});
    const Pickle system = next_pickle("system");
    for (std::size_t i = 0; system.root().kind == Kind::kDict && i < system.root().items.size(); i += 2) {
      if (system.root().items[i]->text == "little_endian" && system.root().items[i + 1]->integer == 0)
        throw Error(name_, "was written on a big-endian machine", {.expected = "little-endian numbers"});
    }
    const Pickle pickle = next_pickle("tensors");
    Storages storages = declared_storages(pickle);
    const Pickle keys = next_pickle("storage keys");
    if (keys.root().kind != Kind::kList)
      throw Error(name_ + ": storage keys", "wrong type", {.expected = "a list", .got = detail::describe_pickled(keys.root())});
    for (const PickleValue* const key : keys.root().items) {
      const auto storage = storages.find(key->text);
      if (storage == storages.end() || storage->second.bytes) cursor.fail("a storage belongs to no tensor, or occurs twice");
      const auto elements = cursor.number<std::int64_t>();
      if (elements != storage->second.elements) {
        cursor.fail("a storage has another size than its tensors say",
                    {.expected = std::to_string(storage->second.elements) + " elements", .got = std::to_string(elements)});
      }
      storage->second.bytes = cursor.take(static_cast<std::uint64_t>(detail::byte_count(name_, storage->second.dtype, {elements})));
    }
    if (cursor.left() != 0) cursor.fail("has bytes at the end that belong to no storage", {.got = std::to_string(cursor.left())});
    for (const auto& [key, storage] : storages)
      if (!storage.bytes) throw Error(name_, "does not hold the storage " + detail::printable(key), {.remedy = "the file is incomplete; fetch it again"});
    read_tensors(pickle.root(), storages);
  }

  // Persistent ids are ("storage", type, key, device, number of elements), in older files with a sixth part, None.
  DELTATUNE_FUNCTION Storages declared_storages(const Pickle& pickle) const {
    Storages storages;
    for (const PickleValue& value : pickle.values()) {
      if (value.kind != Kind::kPersistentId) continue;
      const Storage declared = declared_storage(*value.items.front());
      const auto [known, is_new] = storages.emplace(key_of(value), declared);
      if (!is_new && (known->second.dtype != declared.dtype || known->second.elements != declared.elements))
        throw Error(name_ + ": storage " + detail::printable(known->first), "is described in two ways that do not agree");
    }
    return storages;
  }

  DELTATUNE_FUNCTION Storage declared_storage(const PickleValue& id) const {
    const auto& parts = id.items;
    const bool fits = id.kind == Kind::kTuple && (parts.size() == 5 || (parts.size() == 6 && parts[5]->kind == Kind::kNothing)) &&
                      parts[0]->text == "storage" && parts[1]->kind == Kind::kGlobal && parts[2]->kind == Kind::kText &&
                      parts[2]->text.size() <= kMaxKeyLength && parts[4]->kind == Kind::kInteger && parts[4]->integer >= 0;
    if (!fits) throw Error(name_, "describes a storage in an unknown way", {.got = detail::describe_pickled(id)});
    const auto row = static_cast<std::size_t>(std::ranges::find(detail::kTorchGlobals, parts[1]->text) - detail::kTorchGlobals.begin());
    if (row >= detail::kTorchStorages.size()) throw Error(name_, "is not a type of storage", {.got = detail::describe_pickled(*parts[1])});
    return {detail::kTorchStorages[row], parts[4]->integer, std::nullopt};
  }

  static std::string_view key_of(const PickleValue& persistent_id) { return persistent_id.items.front()->items[2]->text; }

  DELTATUNE_FUNCTION void read_tensors(const PickleValue& root, const Storages& storages) {
    if (root.kind != Kind::kDict) {
      throw Error(name_, "does not hold a state dict", {.expected = "a dict of names and tensors", .got = detail::describe_pickled(root), .remedy = kRemedy});
    }
    for (std::size_t i = 0; i < root.items.size(); i += 2) {
      const PickleValue& key = *root.items[i];
      std::string name(key.text);
      if (key.kind != Kind::kText || replace_invalid_utf8(name) != 0) {
        throw Error(name_, "a key of the state dict is not a name", {.expected = "text", .got = detail::describe_pickled(key), .remedy = kRemedy});
      }
      TensorInfo tensor = read_tensor(name, *root.items[i + 1], storages);
      if (!tensors_.emplace(std::move(name), std::move(tensor)).second) throw Error(name_ + ": " + detail::printable(key.text), "occurs twice");
    }
  }

  // _rebuild_tensor_v2(storage, offset, sizes, strides, requires_grad, hooks), perhaps as first argument of _rebuild_parameter.
  DELTATUNE_FUNCTION TensorInfo read_tensor(const std::string& name, const PickleValue& value, const Storages& storages) {
    const std::string where = name_ + ": " + detail::printable(name);
    const PickleValue* call = &value;
    if (const auto* arguments = arguments_of(*call, "torch._utils._rebuild_parameter"); arguments != nullptr && !arguments->empty()) call = arguments->front();
    const auto* arguments = arguments_of(*call, "torch._utils._rebuild_tensor_v2");
    if (arguments == nullptr) throw Error(where, "is not a tensor", {.expected = "a tensor", .got = detail::describe_pickled(value), .remedy = kRemedy});
    if (arguments->size() != 6 || arguments->front()->kind != Kind::kPersistentId) {
      throw Error(where, "is a tensor of an unknown kind",
                  {.expected = "storage, offset, shape, strides and two more arguments",
                   .got = std::to_string(arguments->size()) + " arguments",
                   .remedy = "save a plain copy of it"});
    }
    const Storage& storage = storages.at(key_of(*arguments->front()));
    const Index offset = size_from(where + ": offset", *(*arguments)[1]);
    const Shape shape = sizes_from(where + ": shape", *(*arguments)[2]);
    const Shape strides = sizes_from(where + ": strides", *(*arguments)[3]);
    if (shape.size() != strides.size()) {
      throw Error(where, "the number of strides does not fit the shape", {.expected = std::to_string(shape.size()), .got = std::to_string(strides.size())});
    }
    const std::span bytes = elements_of(where, storage, offset, shape, strides);
    return {.name = name, .dtype = storage.dtype, .shape = shape, .bytes = bytes, .file = name_};
  }

  // Null when the value is no call of the function.
  static const std::vector<const PickleValue*>* arguments_of(const PickleValue& value, std::string_view function) {
    return value.kind == Kind::kCall && value.items[0]->text == function ? &value.items[1]->items : nullptr;
  }

  static Index size_from(const std::string& where, const PickleValue& value) {
    if (value.kind != Kind::kInteger || value.integer < 0)
      throw Error(where, "wrong value", {.expected = "an integer from 0 to 2^63-1", .got = detail::describe_pickled(value)});
    return value.integer;
  }

  DELTATUNE_FUNCTION static Shape sizes_from(const std::string& where, const PickleValue& value) {
    if (value.kind != Kind::kTuple || value.items.size() > kMaxRank) {
      throw Error(where, "wrong value", {.expected = "a tuple of at most " + std::to_string(kMaxRank) + " integers", .got = detail::describe_pickled(value)});
    }
    Shape sizes;
    for (const PickleValue* const item : value.items) sizes.push_back(size_from(where, *item));
    return sizes;
  }

  // Row-major: in the storage where they stand like that, else a copy.
  DELTATUNE_FUNCTION std::span<const std::byte> elements_of(const std::string& where, const Storage& storage, Index offset, const Shape& shape,
                                                            const Shape& strides) {
    const Index size = size_of(storage.dtype);
    const Index bytes = detail::byte_count(where, storage.dtype, shape);
    if (bytes == 0) return {};
    Shape extents, steps;  // of the dimensions that have a second element, innermost first
    Index last = offset;   // the farthest element
    Index row_step = 1;
    bool row_major = true;
    for (std::size_t i = shape.size(); i-- > 0;) {
      if (shape[i] == 1) continue;
      extents.push_back(shape[i]);
      steps.push_back(strides[i]);
      row_major = row_major && strides[i] == row_step;
      row_step *= shape[i];
      const bool fits = last < storage.elements && strides[i] <= (storage.elements - 1 - last) / (shape[i] - 1);
      last = fits ? last + strides[i] * (shape[i] - 1) : storage.elements;
    }
    if (last >= storage.elements) {
      throw Error(where, "reaches beyond the end of its storage",
                  {.expected = "at most " + std::to_string(storage.elements) + " elements",
                   .got = "offset " + std::to_string(offset) + ", shape " + to_string(shape) + ", strides " + to_string(strides)});
    }
    const auto from_offset = storage.bytes->subspan(static_cast<std::size_t>(offset * size));
    if (row_major) return from_offset.first(static_cast<std::size_t>(bytes));

    // Tensors may overlap in a storage: without a limit, a small file could ask for any amount of memory.
    if (bytes > copies_left_) {
      throw Error(where, "is much larger than what the file stores for it",
                  {.got = "shape " + to_string(shape) + ", strides " + to_string(strides), .remedy = "save tensor.contiguous()"});
    }
    copies_left_ -= bytes;
    std::vector<std::byte>& copy = copies_.emplace_front(static_cast<std::size_t>(bytes));
    std::vector<Index> at(extents.size());
    Index element = 0;
    for (Index written = 0; written < bytes; written += size) {
      std::memcpy(copy.data() + written, from_offset.data() + element * size, static_cast<std::size_t>(size));
      for (std::size_t i = 0; i < at.size(); ++i) {
        element += steps[i];
        if (++at[i] < extents[i]) break;
        element -= extents[i] * steps[i];
        at[i] = 0;
      }
    }
    return copy;
  }

  static std::string_view text_of(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

  std::optional<MappedFile> file_;
  std::forward_list<std::vector<std::byte>> copies_;  // of tensors that are not row-major in the file
  Index copies_left_ = 0;                             // bytes: all copies together are at most as large as the file
};

}  // namespace deltatune
