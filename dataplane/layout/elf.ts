/**
 * Just enough of ELF to read what clang writes for `-target bpf`: 64-bit little-endian relocatable
 * objects, their sections and symbols.
 */

export interface ElfSection {
  readonly name: string
  readonly bytes: Uint8Array
}

export interface ElfSymbol {
  readonly name: string
  /** Name of the section it is defined in, '' for undefined and absolute symbols. */
  readonly section: string
  /** Bytes from the start of its section. */
  readonly offset: number
  readonly size: number
}

export interface Elf {
  readonly sections: readonly ElfSection[]
  readonly symbols: readonly ElfSymbol[]
}

const HEADER_SIZE = 64
const SECTION_HEADER_SIZE = 64
const SYMBOL_SIZE = 24
const SHT_SYMTAB = 2
const SHT_NOBITS = 8

interface SectionHeader {
  readonly nameOffset: number
  readonly type: number
  readonly offset: number
  readonly size: number
  readonly link: number
}

/** Reads sections and symbols; throws on anything but a 64-bit little-endian ELF file. */
export function parseElf(file: Uint8Array): Elf {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength)
  if (file.length < HEADER_SIZE || view.getUint32(0, false) !== 0x7f454c46) {
    throw new Error(`Cannot read ELF: no ELF header in ${file.length} bytes`)
  }
  if (file[4] !== 2 || file[5] !== 1) {
    throw new Error(
      `Cannot read ELF: class ${file[4]}, data ${file[5]}: expected 2 (64-bit), 1 (little-endian)`,
    )
  }
  const headersAt = Number(view.getBigUint64(0x28, true))
  const headerSize = view.getUint16(0x3a, true)
  const headerCount = view.getUint16(0x3c, true)
  const namesIndex = view.getUint16(0x3e, true)
  if (headerSize < SECTION_HEADER_SIZE || headersAt + headerSize * headerCount > file.length) {
    throw new Error('Cannot read ELF: section headers lie outside the file')
  }

  const headers: SectionHeader[] = []
  for (let index = 0; index < headerCount; index++) {
    const at = headersAt + index * headerSize
    headers.push({
      nameOffset: view.getUint32(at, true),
      type: view.getUint32(at + 4, true),
      offset: Number(view.getBigUint64(at + 24, true)),
      size: Number(view.getBigUint64(at + 32, true)),
      link: view.getUint32(at + 40, true),
    })
  }
  const contents = headers.map((header) => {
    if (header.type === SHT_NOBITS) return new Uint8Array(0)
    if (header.offset + header.size > file.length) {
      throw new Error('Cannot read ELF: a section lies outside the file')
    }
    return file.subarray(header.offset, header.offset + header.size)
  })
  const names = contents[namesIndex] ?? new Uint8Array(0)
  const sections = headers.map((header, index) => ({
    name: textAt(names, header.nameOffset),
    bytes: contents[index] ?? new Uint8Array(0),
  }))

  const symbols: ElfSymbol[] = []
  headers.forEach((header, index) => {
    if (header.type !== SHT_SYMTAB) return
    const table = contents[index] ?? new Uint8Array(0)
    const strings = contents[header.link] ?? new Uint8Array(0)
    const rows = new DataView(table.buffer, table.byteOffset, table.byteLength)
    for (let at = 0; at + SYMBOL_SIZE <= table.length; at += SYMBOL_SIZE) {
      symbols.push({
        name: textAt(strings, rows.getUint32(at, true)),
        section: sections[rows.getUint16(at + 6, true)]?.name ?? '',
        offset: Number(rows.getBigUint64(at + 8, true)),
        size: Number(rows.getBigUint64(at + 16, true)),
      })
    }
  })
  return { sections, symbols }
}

/** The NUL-terminated string at `offset` of a string table. */
export function textAt(table: Uint8Array, offset: number): string {
  let end = offset
  while (end < table.length && table[end] !== 0) end++
  return Buffer.from(table.buffer, table.byteOffset + offset, Math.max(0, end - offset)).toString('utf8')
}
