import { missingPrivilege, vectorTests } from './vector-tests.ts'

vectorTests('userspace', missingPrivilege())
